from pathlib import Path

from scangan.jobs import job

with job(snakemake, snakemake.threads):
    import pandas as pd

    from scangan.config import Placement, Voi
    from scangan.data.scan_store import read_batch, read_scan_table
    from scangan.files import atomic
    from scangan.synthesis.mix import Mixer, edit_scans
    from scangan.synthesis.nodules import Filling
    from scangan.synthesis.placement import PlacementSettings, annotated_sizes

    settings = snakemake.params.settings
    voi, seed = Voi.model_validate(settings["voi"]), settings["mix_seed"]
    inject, erase = (
        Filling.read(Path(snakemake.input[f"{name}_weights"]), Path(snakemake.input[f"{name}_description"]))
        for name in ("injector", "eraser")
    )
    known = read_scan_table(snakemake.input.annotated_scans), pd.read_csv(snakemake.input.annotated_nodules)
    counts, diameters = annotated_sizes(*known, voi.diameters_mm)
    mixer = Mixer(
        edit=pd.read_csv(snakemake.input.mix, keep_default_na=False).set_index("scan_id").edit,
        counts=counts,
        diameters_mm=diameters,
        inject=inject.fill,
        erase=erase.fill,
        placement=PlacementSettings(**Placement.model_validate(settings["placement"]).model_dump()),
        voi=voi,
        seed=seed,
        sham=settings["sham"],
        erased_up_to_mm=erase.told_up_to_mm,
    )
    scans, nodules = read_batch(*(snakemake.input[name] for name in ("scans", "nodules", "cohort")))
    tables = edit_scans(snakemake.input.volumes, scans, nodules, mixer, snakemake.output.volumes)
    for name, table in tables.items():
        with atomic(snakemake.output[name]) as path:
            table.to_parquet(path, index=False)
