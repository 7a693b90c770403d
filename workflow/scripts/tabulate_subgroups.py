from scangan.jobs import job

with job(snakemake):
    from scangan.config import Evaluation
    from scangan.data.subgroups import read_subgroups
    from scangan.facts import Facts
    from scangan.metrics.classification import read_predictions
    from scangan.metrics.subgroups import score_subgroups
    from scangan.report.classification_tables import subgroups_table, write_subgroups

    positive, gan_seeds = snakemake.params.positive, snakemake.params.gan_seeds
    predictions = read_predictions(snakemake.input.predictions, gan_seeds, snakemake.params.folds)
    subgroup_of, settings = (
        read_subgroups(snakemake.input.subgroups),
        Evaluation.model_validate(snakemake.params.settings),
    )
    scores = score_subgroups(predictions, subgroup_of, positive, settings, gan_seeds)
    table = subgroups_table(scores, Facts(**snakemake.params.study))
    write_subgroups(table, snakemake.params.column, *snakemake.output.subgroups)
