from scangan.jobs import job

with job(snakemake.log[0]):
    import pandas as pd

    from scangan.data.scan_store import read_scan_table, scan_manifest
    from scangan.data.store import atomic

    tables = zip(snakemake.params.cohorts, map(read_scan_table, snakemake.input.scans), strict=True)
    with atomic(snakemake.output.manifest) as path:
        pd.concat([scan_manifest(scans, cohort) for cohort, scans in tables]).to_parquet(path, index=False)
    with atomic(snakemake.output.rejected) as path:
        pd.concat(map(pd.read_csv, snakemake.input.rejected)).to_csv(path, index=False)
