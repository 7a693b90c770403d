from pathlib import Path

from scangan.jobs import job

with job(snakemake.log[0]) as log:
    import pandas as pd

    from scangan.config import Gathering
    from scangan.data.scan_store import BatchFiles, gather_batches
    from scangan.files import atomic

    files = (snakemake.input[name] for name in ("volumes", "scans", "nodules", "rejected"))
    batches = [BatchFiles(*map(Path, paths)) for paths in zip(*files, strict=True)]
    settings = Gathering.model_validate(snakemake.params.settings)
    tables = gather_batches(batches, pd.read_parquet(snakemake.input.index_rejected), settings)
    for table, target in zip(tables, snakemake.output, strict=True):
        with atomic(target) as path:
            table.to_csv(path, index=False)
    log.info("%d scans, %d nodules, %d rejected or left out (see %s)", *map(len, tables), snakemake.output.rejected)
