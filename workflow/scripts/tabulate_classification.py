from scangan.jobs import job

with job(snakemake):
    import pandas as pd

    from scangan.facts import Facts
    from scangan.metrics.convergence import count_steps, count_unconverged, read_histories
    from scangan.rejected import read_rejected, rejected_note
    from scangan.report.classification_tables import (
        CALIBRATION_NOTE,
        calibration_table,
        classification_table,
        study_note,
        write_classification,
        write_scores,
    )

    facts = Facts(**snakemake.params.study)
    scores, comparisons = pd.read_csv(snakemake.input.scores), pd.read_csv(snakemake.input.comparisons)
    histories = read_histories(snakemake.input.histories, snakemake.params.gan_seeds, snakemake.params.folds)
    unconverged = count_unconverged(histories, snakemake.params.patience)
    split, rejected = pd.read_csv(snakemake.input.split, dtype=str), read_rejected(snakemake.input.rejected)
    note = rejected_note(rejected, len(split), "images", snakemake.input.rejected)
    note = f"{study_note(facts)}\n{note}".strip()
    table = classification_table(scores, comparisons, count_steps(histories), unconverged, facts)
    write_classification(table, comparisons, *snakemake.output.classification, note)
    write_scores(
        calibration_table(scores, facts), *snakemake.output.calibration, index="arm", note=f"{CALIBRATION_NOTE}\n{note}"
    )
