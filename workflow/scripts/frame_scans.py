from pathlib import Path

from scangan.jobs import job

with job(snakemake, snakemake.threads):
    from scangan.data.scan_store import NODULE_TYPES, SCAN_TYPES, read_batch, write_parquet
    from scangan.rejected import REJECTED_TYPES
    from scangan.synthesis.framing import frame_scans

    tables = frame_scans(
        snakemake.input.volumes,
        *read_batch(*(snakemake.input[name] for name in ("scans", "nodules", "cohort"))),
        snakemake.output.volumes,
        **snakemake.params.grid,
    )
    kinds = {"scans": SCAN_TYPES, "nodules": NODULE_TYPES, "rejected": REJECTED_TYPES}
    for table, (name, types) in zip(tables, kinds.items(), strict=True):
        write_parquet(Path(snakemake.output[name]), table, types)
