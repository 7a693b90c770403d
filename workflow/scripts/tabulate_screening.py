from scangan.jobs import job

with job(snakemake):
    import pandas as pd

    from scangan.facts import Facts
    from scangan.report.screening_table import note_of, screening_table
    from scangan.report.tables import write_table

    verdicts = dict(zip(snakemake.params.gans, map(pd.read_parquet, snakemake.input.verdicts), strict=True))
    table = screening_table(verdicts, Facts(**snakemake.params.study))
    write_table(table, *snakemake.output, index="variant", note=note_of(table))
