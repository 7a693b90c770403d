from scangan.jobs import job

with job(snakemake):
    from scangan.files import atomic
    from scangan.metrics.classification import read_predictions
    from scangan.metrics.scores import score_arms

    predictions = read_predictions(snakemake.input.predictions, snakemake.params.gan_seeds, snakemake.params.folds)
    with atomic(snakemake.output.scores) as path:
        table = score_arms(predictions, snakemake.params.positive, snakemake.params.gan_seeds)
        table.to_csv(path, index=False)
