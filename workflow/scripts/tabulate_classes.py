from scangan.jobs import job

with job(snakemake):
    import pandas as pd

    from scangan.facts import Facts
    from scangan.metrics.classification import read_predictions
    from scangan.metrics.confusion import count_calls
    from scangan.report.classification_tables import classes_table, confusion_table, write_classes, write_confusion

    facts, scores = Facts(**snakemake.params.study), pd.read_csv(snakemake.input.scores)
    predictions = read_predictions(snakemake.input.predictions, snakemake.params.gan_seeds, snakemake.params.folds)
    write_classes(classes_table(scores, facts), *snakemake.output.classes)
    write_confusion(confusion_table(count_calls(predictions), facts), *snakemake.output.confusion)
