from scangan.jobs import job

with job(snakemake):
    from scangan.facts import Facts
    from scangan.metrics.classification import read_predictions
    from scangan.report.classification_figures import reliability, roc_curves

    facts = Facts(**snakemake.params.study)
    predictions = read_predictions(snakemake.input.predictions, snakemake.params.gan_seeds, snakemake.params.folds)
    roc_curves(predictions, snakemake.output.roc, facts)
    reliability(predictions, snakemake.output.reliability, facts)
