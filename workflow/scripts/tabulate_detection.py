from scangan.jobs import job

with job(snakemake):
    import pandas as pd

    from scangan.facts import Facts
    from scangan.metrics.classification import read_predictions
    from scangan.metrics.detection import score_sizes
    from scangan.report.classification_tables import SIZES_NOTE, sizes_table, write_scores
    from scangan.report.volume_figures import detection_figure

    facts = Facts(**snakemake.params.study)
    predictions = read_predictions(snakemake.input.predictions, snakemake.params.gan_seeds)
    labels = pd.read_csv(snakemake.input.labels, keep_default_na=False)
    arguments = (predictions, snakemake.params.diameters_mm, facts.positive, snakemake.params.gan_seeds)
    scores = score_sizes(*arguments, set(labels.scan_id[labels.edit == "inject"]))
    table = sizes_table(scores, facts)
    write_scores(table, *snakemake.output.detection, index=["arm", "diameter_mm"], note=SIZES_NOTE)
    detection_figure(scores, snakemake.output.figure, facts)
