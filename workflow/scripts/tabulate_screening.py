from scangan.jobs import job

with job(snakemake):
    import pandas as pd

    from scangan.facts import Facts
    from scangan.report.screening_table import NOTE, screening_table
    from scangan.report.tables import write_table

    verdicts = {snakemake.params.gan: pd.concat(map(pd.read_parquet, snakemake.input.verdicts), ignore_index=True)}
    table = screening_table(verdicts, Facts(**snakemake.params.study))
    write_table(table, *snakemake.output, index="variant", note=NOTE)
