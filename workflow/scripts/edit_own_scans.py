from pathlib import Path

from scangan.jobs import job

with job(snakemake, snakemake.threads) as log:
    from scangan.config import VoiCut
    from scangan.models.catalogue import read_generator
    from scangan.synthesis.edit import EditSettings, edit_own_scans
    from scangan.synthesis.nodules import fill

    files, wanted, out = snakemake.input, snakemake.params.settings, Path(snakemake.output.folder)
    voi = VoiCut.model_validate(wanted["voi"])

    def fill_with(weights, description):
        generator, _ = read_generator(Path(weights), Path(description))
        return lambda vois, radii_mm, seeds: fill(generator, vois, radii_mm, voi.margin_mm, voi.spacing_mm, seeds)

    injector = fill_with(files.injector_weights, files.injector_description)
    eraser = fill_with(files.eraser_weights, files.eraser_description)
    settings = EditSettings(voi, wanted["seed"], erased_up_to_mm=wanted["erased_up_to_mm"])
    done, rejected = edit_own_scans(Path(files.folder), Path(files.edits), out, injector, eraser, settings)
    log.info("%d edits done, %d rejected (see %s)", len(done), len(rejected), out / "edits_rejected.csv")
