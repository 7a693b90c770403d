from pathlib import Path

from scangan.jobs import job

with job(snakemake):
    from scangan.config import Indexing
    from scangan.files import atomic
    from scangan.ingest.scan_index import index_scans

    settings = Indexing.model_validate(snakemake.params.settings)
    tables = index_scans(Path(snakemake.input.folder), settings, snakemake.params.data)
    for table, target in zip(tables, snakemake.output, strict=True):
        with atomic(target) as path:
            table.to_parquet(path, index=False)
