from pathlib import Path
from types import SimpleNamespace

from scangan.jobs import job

with job(snakemake.log[0]):
    from scangan.data.store import atomic
    from scangan.ingest.scan_index import index_scans

    settings = SimpleNamespace(**snakemake.params.settings)
    tables = index_scans(Path(snakemake.input.folder), settings, snakemake.params.data)
    for table, target in zip(tables, snakemake.output, strict=True):
        with atomic(target) as path:
            table.to_parquet(path, index=False)
