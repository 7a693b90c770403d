from scangan.jobs import job

with job(snakemake):
    from scangan.config import Evaluation
    from scangan.files import atomic
    from scangan.metrics.classification import read_predictions
    from scangan.metrics.comparison import compare_arms

    predictions = read_predictions(snakemake.input.predictions, snakemake.params.gan_seeds, snakemake.params.folds)
    settings = Evaluation.model_validate(snakemake.params.settings)
    with atomic(snakemake.output.comparisons) as path:
        table = compare_arms(predictions, snakemake.params.positive, settings, snakemake.params.gan_seeds)
        table.to_csv(path, index=False)
