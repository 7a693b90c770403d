from scangan.jobs import job

with job(snakemake.log[0]):
    import pandas as pd

    from scangan.report.screening_table import NOTE, screening_table
    from scangan.report.tables import write_table

    verdicts = {snakemake.params.gan: pd.concat(map(pd.read_parquet, snakemake.input.verdicts), ignore_index=True)}
    write_table(screening_table(verdicts, **snakemake.params.study), *snakemake.output, index="variant", note=NOTE)
