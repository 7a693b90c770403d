from pathlib import Path

from scangan.jobs import job

with job(snakemake, snakemake.threads):
    import pandas as pd

    from scangan.data.scan_store import read_scan_table
    from scangan.data.volume_set import VolumeWriter, read_volume_set, split_volumes
    from scangan.files import atomic
    from scangan.synthesis.nodules import Filling
    from scangan.synthesis.placement import annotated_sizes
    from scangan.synthesis.volumes import inject_sized, injection

    settings = snakemake.params.settings
    test = split_volumes(read_volume_set(snakemake.input.volumes, snakemake.input.manifests), snakemake.input.split)[
        "test"
    ]
    inject, erase = (
        Filling.read(Path(snakemake.input[f"{name}_weights"]), Path(snakemake.input[f"{name}_description"])).fill
        for name in ("injector", "eraser")
    )
    known = read_scan_table(snakemake.input.annotated_scans), pd.read_csv(snakemake.input.annotated_nodules)
    counts, _ = annotated_sizes(*known, settings["voi"]["diameters_mm"])
    wanted = injection(counts, settings["test_diameters_mm"], inject, erase, settings)
    with VolumeWriter(snakemake.output.volumes, snakemake.output.manifest, test.size) as writer:
        nodules, rejected = inject_sized(test, settings["test_diameters_mm"], wanted, writer)
    for name, table in (("nodules", nodules), ("rejected", rejected)):
        with atomic(snakemake.output[name]) as path:
            table.to_csv(path, index=False)
