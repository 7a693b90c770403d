from pathlib import Path

from scangan.jobs import job

with job(snakemake, snakemake.threads):
    import pandas as pd

    from scangan.config import Voi
    from scangan.data.scan_store import read_batch
    from scangan.files import atomic
    from scangan.synthesis.framing import free_scans
    from scangan.synthesis.nodules import Filling

    settings = snakemake.params.settings
    eraser = Filling.read(Path(snakemake.input.eraser_weights), Path(snakemake.input.eraser_description))
    rejected = free_scans(
        snakemake.wildcards.cohort,
        *(snakemake.input[name] for name in ("volumes", "mixed")),
        *read_batch(*(snakemake.input[name] for name in ("scans", "nodules", "cohort"))),
        pd.read_parquet(snakemake.input.mixed_nodules),
        *((snakemake.output[f"{name}_volumes"], snakemake.output[f"{name}_manifest"]) for name in ("free", "mixed")),
        size=snakemake.params.size,
        erase=eraser.fill,
        voi=Voi.model_validate(settings["voi"]),
        seed=settings["mix_seed"],
        erased_up_to_mm=eraser.told_up_to_mm,
    )
    with atomic(snakemake.output.rejected) as path:
        rejected.to_parquet(path, index=False)
