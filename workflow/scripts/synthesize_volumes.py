from pathlib import Path

from scangan.jobs import job

with job(snakemake, snakemake.threads):
    from functools import partial

    import pandas as pd

    from scangan.ct.anatomy import describe_volume
    from scangan.data.scan_store import read_scan_table
    from scangan.data.volume_set import VolumeWriter
    from scangan.files import atomic
    from scangan.models.catalogue import read_generator
    from scangan.synthesis.nodules import Filling
    from scangan.synthesis.placement import annotated_sizes
    from scangan.synthesis.volumes import VolumeSynthesizer, injection, synthesize_volumes

    files, settings = snakemake.input, dict(snakemake.params.settings)
    generator, facts = read_generator(Path(files.weights), Path(files.description))
    facts["gan"] = settings.pop("name")
    spacing_mm, window = facts["spacing_mm"], tuple(facts["window"])
    if settings.pop("described"):
        settings["describe"] = partial(describe_volume, spacing_mm=spacing_mm, window=window)
    if wanted := snakemake.params.injection:
        inject, erase = (
            Filling.read(Path(files[f"{name}_weights"]), Path(files[f"{name}_description"])).fill
            for name in ("injector", "eraser")
        )
        known = read_scan_table(files.annotated_scans), pd.read_csv(files.annotated_nodules)
        sizes = annotated_sizes(*known, wanted["voi"]["diameters_mm"])
        settings |= {"injection": injection(*sizes, inject, erase, wanted), "attempts": wanted["attempts"]}
    written = snakemake.output
    with VolumeWriter(written.volumes, written.manifest, facts["size"], written.edited_manifest) as writer:
        tables = synthesize_volumes(
            VolumeSynthesizer(generator, facts), **settings, writer=writer, threads=snakemake.threads
        )
    for name, table in tables.items():
        with atomic(written[name]) as path:
            table.to_parquet(path, index=False)
