from scangan.jobs import job

with job(snakemake):
    import pandas as pd

    from scangan.data.duplicates import read_duplicates
    from scangan.data.scan_store import read_scan_table, scan_manifest
    from scangan.files import atomic
    from scangan.rejected import read_rejected

    tables = zip(snakemake.params.cohorts, map(read_scan_table, snakemake.input.scans), strict=True)
    with atomic(snakemake.output.manifest) as path:
        pd.concat([scan_manifest(scans, cohort) for cohort, scans in tables]).to_parquet(path, index=False)
    with atomic(snakemake.output.rejected) as path:
        pd.concat(map(read_rejected, snakemake.input.rejected)).to_csv(path, index=False)
    with atomic(snakemake.output.duplicates) as path:
        pd.concat(map(read_duplicates, snakemake.input.duplicates)).to_csv(path, index=False)
