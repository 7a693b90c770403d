from pathlib import Path

from scangan.jobs import job

with job(snakemake, snakemake.threads):
    import pandas as pd

    from scangan.data.scan_store import read_scan_table
    from scangan.data.volume_set import VolumeWriter, read_volume_set
    from scangan.files import atomic
    from scangan.models.catalogue import read_generator
    from scangan.synthesis.nodules import Filling
    from scangan.synthesis.placement import annotated_sizes
    from scangan.synthesis.volumes import VolumeSynthesizer, inject_into_synthetic, injection

    settings = snakemake.params.settings
    volumes = read_volume_set([snakemake.input.volumes], [snakemake.input.manifest])
    synthesizer = VolumeSynthesizer(*read_generator(Path(snakemake.input.weights), Path(snakemake.input.description)))
    inject, erase = (
        Filling.read(Path(snakemake.input[f"{name}_weights"]), Path(snakemake.input[f"{name}_description"])).fill
        for name in ("injector", "eraser")
    )
    known = read_scan_table(snakemake.input.annotated_scans), pd.read_csv(snakemake.input.annotated_nodules)
    wanted = injection(*annotated_sizes(*known, settings["voi"]["diameters_mm"]), inject, erase, settings)
    with VolumeWriter(snakemake.output.volumes, snakemake.output.manifest, volumes.size) as writer:
        nodules, rejected = inject_into_synthetic(volumes, synthesizer.draw, wanted, snakemake.params.attempts, writer)
    for name, table in (("nodules", nodules), ("rejected", rejected)):
        with atomic(snakemake.output[name]) as path:
            table.to_parquet(path, index=False)
