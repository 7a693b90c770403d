from scangan.jobs import job

with job(snakemake):
    import pandas as pd

    from scangan.config import Evaluation, Fidelity
    from scangan.data.split import parts_of
    from scangan.facts import Facts
    from scangan.files import atomic
    from scangan.metrics.volumes import compare_slices, consistency_scores, find_copies, read_slice_features
    from scangan.rejected import left_out_note
    from scangan.report.tables import copies_note, write_table
    from scangan.report.volume_figures import consistency_figure
    from scangan.report.volume_tables import CONSISTENCY_NOTE, FIDELITY_NOTE, consistency_table, volume_fidelity_table

    facts, gans = Facts(**snakemake.params.study), snakemake.params.gans
    settings = Fidelity.model_validate(snakemake.params.settings)
    rejected = pd.concat(map(pd.read_parquet, snakemake.input.rejected), ignore_index=True)
    with atomic(snakemake.output.rejected) as path:
        rejected.to_csv(path, index=False)
    note = left_out_note(rejected, snakemake.output.rejected)

    real, *drawn = map(read_slice_features, snakemake.input.slices)
    parts = parts_of(real.volume_ids, snakemake.input.split)
    is_train = parts == "train"
    scores = compare_slices(
        real.select(is_train), real.select(~is_train), dict(zip(gans, drawn, strict=True)), settings
    )
    table = volume_fidelity_table(scores, facts)
    write_table(table, *snakemake.output.fidelity, index="variant", note=f"{FIDELITY_NOTE}\n{note}")

    real, *drawn = map(pd.read_parquet, snakemake.input.descriptions)
    train, held_out = real[is_train], real[~is_train]
    described = dict(zip(gans, drawn, strict=True))
    scores = [
        consistency_scores(
            {"train": train, "real": held_out} | described, Evaluation.model_validate(snakemake.params.evaluation)
        )
    ]
    nearest = []
    for gan, rows in described.items():
        copies, images = find_copies(train, held_out, rows, gan, settings)
        scores.append(copies)
        nearest.append(images)
    with atomic(snakemake.output.copies) as path:
        pd.concat(nearest, ignore_index=True).to_csv(path, index=False)
    table = consistency_table(pd.concat(scores, ignore_index=True), facts)
    note = f"{CONSISTENCY_NOTE}\n{copies_note(table, settings.copy_quantile)}\n{note}"
    write_table(table, *snakemake.output.consistency, index="variant", note=note)
    consistency_figure({"real": real} | described, snakemake.output.figure, facts)
