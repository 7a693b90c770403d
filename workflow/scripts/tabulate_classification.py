from scangan.jobs import job

with job(snakemake.log[0]):
    import pandas as pd

    from scangan.facts import Facts
    from scangan.rejected import read_rejected, rejected_note
    from scangan.report.classification_tables import calibration_table, classification_table, write_scores

    facts = Facts(**snakemake.params.study)
    scores = pd.read_csv(snakemake.input.scores)
    split, rejected = pd.read_csv(snakemake.input.split, dtype=str), read_rejected(snakemake.input.rejected)
    note = rejected_note(rejected, len(split), "images", snakemake.input.rejected)
    write_scores(classification_table(scores, facts), *snakemake.output[0:2], index="arm", note=note)
    write_scores(calibration_table(scores, facts), *snakemake.output[2:4], index="arm", note=note)
