from scangan.jobs import job

with job(snakemake):
    import pandas as pd

    from scangan.config import Evaluation
    from scangan.data.external import EXTERNAL, describe_tested
    from scangan.facts import Facts
    from scangan.metrics.classification import read_external
    from scangan.metrics.comparison import compare_arms
    from scangan.metrics.scores import score_arms
    from scangan.rejected import left_out_note, read_rejected, rejected_note
    from scangan.report.classification_tables import external_table, write_external

    positive, gan_seeds = snakemake.params.positive, snakemake.params.gan_seeds
    predictions = read_external(snakemake.input.predictions, snakemake.input.external, gan_seeds)
    settings = Evaluation.model_validate(snakemake.params.settings)
    scores = score_arms(predictions, positive, gan_seeds, EXTERNAL)
    comparisons = compare_arms(predictions, positive, settings, gan_seeds, EXTERNAL)
    tested = pd.read_csv(snakemake.input.tested, dtype=str, keep_default_na=False)
    rejected, left_out = snakemake.input.rejected, snakemake.input.left_out
    notes = [
        f"Tested on {describe_tested(tested)}.",
        left_out_note(read_rejected(left_out), left_out),
        rejected_note(read_rejected(rejected), len(tested), "external images", rejected),
    ]
    table = external_table(scores, comparisons, Facts(**snakemake.params.study))
    write_external(table, comparisons, *snakemake.output.external, note="\n".join(filter(None, notes)))
