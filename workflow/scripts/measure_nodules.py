from pathlib import Path

from scangan.jobs import job

with job(snakemake, snakemake.threads):
    from scangan.config import Evaluation, Fidelity, Voi
    from scangan.data.split import SPLITS
    from scangan.data.voi import VoiSet, read_parts_of_vois
    from scangan.facts import Facts
    from scangan.metrics.nodules import eraser_table, injector_table, with_measured_diameters
    from scangan.rejected import left_out_note, read_rejected
    from scangan.report.nodule_edit_figures import compared_vois, diameter_figure, voi_figure
    from scangan.report.nodule_tables import ERASER_NOTE, INJECTOR_NOTE
    from scangan.report.tables import write_table
    from scangan.synthesis.nodules import Filling

    facts, voi = Facts(**snakemake.params.study), Voi.model_validate(snakemake.params.settings["voi"])
    evaluation = Evaluation.model_validate(snakemake.params.evaluation)
    fidelity = Fidelity.model_validate(snakemake.params.fidelity)
    nodules, healthy = (
        read_parts_of_vois(
            snakemake.input[f"{kind}_voxels"], snakemake.input[f"{kind}_table"], snakemake.input.split, parts
        )
        for kind, parts in (("nodule", SPLITS), ("healthy", ("validation", "test")))
    )
    inject, erase = (
        Filling.read(Path(snakemake.input[f"{name}_weights"]), Path(snakemake.input[f"{name}_description"]))
        for name in ("injector", "eraser")
    )
    # Of patients that neither network has seen.
    truth = VoiSet.concatenate([healthy.pop(part) for part in ("validation", "test")])
    real = VoiSet.concatenate([nodules["validation"], nodules["test"]])
    injected = inject.paste_into_vois(truth, voi.seed)
    erased = erase.paste_into_vois(injected, voi.seed)
    table = eraser_table(injected, erased.voxels, truth.voxels, voi.margin_mm, evaluation, facts)
    write_table(table, *snakemake.output.eraser, index="variant", note=ERASER_NOTE)
    # Into the cohort that the real ones come from: what the scanner does to a VOI is not the injector's doing.
    of_cohort = injected.select((injected.table.cohort == snakemake.params.settings["annotated"]).to_numpy())
    of_cohort, real = with_measured_diameters(of_cohort), with_measured_diameters(real)
    table = injector_table(of_cohort, real, nodules["train"], voi.margin_mm, evaluation, fidelity, facts)
    note = left_out_note(read_rejected(snakemake.input.rejected), snakemake.input.rejected)
    write_table(table, *snakemake.output.injector, index="variant", note=f"{INJECTOR_NOTE}\n{note}")
    measured = {
        name: (vois.table.equivalent_diameter_mm.to_numpy(), vois.table.measured_mm.to_numpy())
        for name, vois in (("injected", of_cohort), ("real", real))
    }
    diameter_figure(measured, snakemake.output.diameters, facts)
    rows = compared_vois(truth, injected, erased, real, voi.margin_mm)
    voi_figure(rows, snakemake.output.vois, facts)
