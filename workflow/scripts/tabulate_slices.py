from scangan.jobs import job

with job(snakemake):
    import pandas as pd

    from scangan.facts import Facts
    from scangan.report.tables import slices_table, write_table

    dropped, manifest = pd.read_csv(snakemake.input.dropped), pd.read_parquet(snakemake.input.manifest)
    table = slices_table(dropped, manifest, Facts(**snakemake.params.study))
    write_table(table, *snakemake.output, index=None)
