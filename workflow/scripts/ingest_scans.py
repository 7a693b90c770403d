from pathlib import Path

from scangan.jobs import job

with job(snakemake, snakemake.threads):
    import pandas as pd

    from scangan.config import Ingestion
    from scangan.data.scan_store import BatchFiles
    from scangan.ingest.scans import ingest_batch

    settings = Ingestion.model_validate(snakemake.params.settings)
    index = pd.read_parquet(snakemake.input.index)
    out = BatchFiles(**{name: Path(path) for name, path in snakemake.output.items()})
    ingest_batch(Path(snakemake.input.folder), index, int(snakemake.wildcards.batch), settings, out)
