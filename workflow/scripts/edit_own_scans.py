from pathlib import Path

from scangan.jobs import job

with job(snakemake, snakemake.threads) as log:
    from scangan.synthesis.edit import EditSettings, edit_own_scans
    from scangan.synthesis.nodules import Filling

    files, out = snakemake.input, Path(snakemake.output.folder)
    injector = Filling.read(Path(files.injector_weights), Path(files.injector_description))
    eraser = Filling.read(Path(files.eraser_weights), Path(files.eraser_description))
    settings = EditSettings(eraser.voi, snakemake.params.settings["seed"], erased_up_to_mm=eraser.told_up_to_mm)
    done, rejected = edit_own_scans(Path(files.folder), Path(files.edits), out, injector.fill, eraser.fill, settings)
    log.info("%d edits done, %d rejected (see %s)", len(done), len(rejected), out / "edits_rejected.csv")
