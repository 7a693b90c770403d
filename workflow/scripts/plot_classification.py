from scangan.jobs import job

with job(snakemake.log[0]):
    from scangan.metrics.classification import read_predictions
    from scangan.report.classification_figures import reliability, roc_curves

    facts = snakemake.params.study
    predictions = read_predictions(snakemake.input.predictions, **snakemake.params.arms)
    for plot, path in ((roc_curves, snakemake.output.roc), (reliability, snakemake.output.reliability)):
        plot(predictions, facts["positive"], path, facts["data"], facts["scale"], facts["study"])
