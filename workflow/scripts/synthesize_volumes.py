from pathlib import Path

from scangan.jobs import job

with job(snakemake, snakemake.threads):
    from functools import partial

    import pandas as pd

    from scangan.data.scan_store import read_scan_table
    from scangan.data.volume_set import VolumeWriter
    from scangan.files import atomic
    from scangan.processes import worthwhile_processes
    from scangan.synthesis.placement import annotated_sizes
    from scangan.synthesis.volumes import VolumeMaker, injection, synthesize_volumes

    files, written, wanted = snakemake.input, snakemake.output, snakemake.params.injection
    settings = dict(snakemake.params.settings)
    name, first, volumes, size = (settings.pop(key) for key in ("name", "first_seed", "volumes", "size"))
    networks = {
        kind: (Path(files[f"{prefix}weights"]), Path(files[f"{prefix}description"]))
        for kind, prefix in (("generator", ""), ("injector", "injector_"), ("eraser", "eraser_"))
        if kind == "generator" or wanted
    }
    if wanted:
        known = read_scan_table(files.annotated_scans), pd.read_csv(files.annotated_nodules)
        sizes = annotated_sizes(*known, wanted["voi"]["diameters_mm"])
        settings |= {"injected": partial(injection, *sizes, settings=wanted), "attempts": wanted["attempts"]}
    with VolumeWriter(written.volumes, written.manifest, size, written.edited_manifest) as writer:
        tables = synthesize_volumes(
            partial(VolumeMaker.open, **networks, gan=name, **settings),
            range(first, first + volumes),
            writer,
            name,
            worthwhile_processes(volumes, size, snakemake.threads),
        )
    for kind, table in tables.items():
        with atomic(written[kind]) as path:
            table.to_parquet(path, index=False)
