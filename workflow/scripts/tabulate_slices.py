from scangan.jobs import job

with job(snakemake.log[0]):
    import pandas as pd

    from scangan.report.tables import slices_table, write_table

    dropped, manifest = pd.read_csv(snakemake.input.dropped), pd.read_parquet(snakemake.input.manifest)
    write_table(slices_table(dropped, manifest, **snakemake.params.study), *snakemake.output, index=None)
