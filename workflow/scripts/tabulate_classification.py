from scangan.jobs import job

with job(snakemake.log[0]):
    import pandas as pd

    from scangan.report.tables import calibration_table, classification_table, rejected_note, write_table

    facts = snakemake.params.study
    scores = pd.read_csv(snakemake.input.scores)
    split, rejected = pd.read_csv(snakemake.input.split, dtype=str), pd.read_csv(snakemake.input.rejected, dtype=str)
    note = rejected_note(len(split), rejected, snakemake.input.rejected)
    write_table(classification_table(scores, **facts), *snakemake.output[0:2], index="arm", note=note)
    write_table(calibration_table(scores, **facts), *snakemake.output[2:4], index="arm", note=note)
