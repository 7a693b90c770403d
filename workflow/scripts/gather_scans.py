from pathlib import Path

from scangan.jobs import job

with job(snakemake) as log:
    import pandas as pd

    from scangan.config import Duplicates, Gathering
    from scangan.data.duplicates import settle_scans
    from scangan.data.scan_store import BatchFiles, gather_batches
    from scangan.files import atomic

    files = (snakemake.input[name] for name in ("volumes", "scans", "nodules", "rejected"))
    batches = [BatchFiles(*map(Path, paths)) for paths in zip(*files, strict=True)]
    settings = Gathering.model_validate(snakemake.params.settings)
    scans, nodules, rejected = gather_batches(batches, pd.read_parquet(snakemake.input.index_rejected), settings)
    scans, nodules, settled = settle_scans(scans, nodules, Duplicates.model_validate(snakemake.params.duplicates))
    rejected = pd.concat([rejected, settled.rejected], ignore_index=True)
    tables = (scans, nodules, rejected, settled.duplicates)
    for table, target in zip(tables, snakemake.output, strict=True):
        with atomic(target) as path:
            table.to_csv(path, index=False)
    log.info("%d scans, %d nodules, %d rejected or left out (see %s)", *map(len, tables[:3]), snakemake.output.rejected)
