from scangan.jobs import job

with job(snakemake.log[0]):
    from scangan.config import Evaluation
    from scangan.metrics.classification import read_predictions
    from scangan.metrics.detection import score_sizes
    from scangan.report.tables import write_table
    from scangan.report.volume_figures import detection_figure
    from scangan.report.volume_tables import SIZES_NOTE, sizes_table

    facts = snakemake.params.study
    positive = facts.pop("positive")
    predictions = read_predictions(snakemake.input.predictions, **snakemake.params.arms)
    settings = Evaluation.model_validate(snakemake.params.settings)
    scores = score_sizes(predictions, snakemake.params.diameters_mm, positive, settings)
    write_table(
        sizes_table(scores, **facts), *snakemake.output.detection, index=["arm", "diameter_mm"], note=SIZES_NOTE
    )
    detection_figure(scores, snakemake.output.figure, facts["data"], facts["scale"], facts["study"])
