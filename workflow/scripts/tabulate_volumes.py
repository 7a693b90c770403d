from scangan.jobs import job

with job(snakemake):
    import pandas as pd

    from scangan.config import Evaluation, Fidelity
    from scangan.data.split import parts_of
    from scangan.facts import Facts
    from scangan.files import atomic
    from scangan.metrics.volumes import (
        compare_slices,
        compare_whole_volumes,
        consistency_scores,
        find_copied_volumes,
        not_ordered,
        order_scores,
        read_slice_features,
    )
    from scangan.models.catalogue import trained_against
    from scangan.rejected import left_out_note
    from scangan.report.tables import copies_note, planted_note, write_hiding_planted, write_table
    from scangan.report.volume_figures import consistency_figure
    from scangan.report.volume_tables import (
        CONSISTENCY_NOTE,
        consistency_table,
        order_note,
        volume_fidelity_note,
        volume_fidelity_table,
    )

    facts, gans = Facts(**snakemake.params.study), snakemake.params.gans
    settings = Fidelity.model_validate(snakemake.params.settings)
    rejected = pd.concat(map(pd.read_parquet, snakemake.input.rejected), ignore_index=True)
    with atomic(snakemake.output.rejected) as path:
        rejected.to_csv(path, index=False)
    note = left_out_note(rejected, snakemake.output.rejected)

    described, *others = map(pd.read_parquet, snakemake.input.descriptions)
    is_train = parts_of(described.volume_id, snakemake.input.split) == "train"
    train, held_out = described[is_train], described[~is_train]
    patients = [rows.patient_id.to_numpy() for rows in (train, held_out)]

    sources = dict(zip(gans, others, strict=True))
    evaluation = Evaluation.model_validate(snakemake.params.evaluation)
    all_sources = {"train": train, "real": held_out} | sources
    scores = [consistency_scores(all_sources, evaluation), order_scores(all_sources, evaluation)]
    note = "\n".join(filter(None, [order_note(not_ordered(scores[1])), note]))

    real, *drawn = map(read_slice_features, snakemake.input.slices)
    sets = real.select(is_train), real.select(~is_train), dict(zip(gans, drawn, strict=True)), settings
    generators = zip(gans, snakemake.input.generators, strict=True)
    refused = [gan for gan, description in generators if facts.extractor in trained_against([description])]
    tables = compare_whole_volumes(*sets, *patients, refused), compare_slices(*sets, refused)
    table = volume_fidelity_table(pd.concat(tables, ignore_index=True), facts)
    reading = volume_fidelity_note(table, facts.extractor)
    write_table(table, *snakemake.output.fidelity, index="variant", note=f"{reading}\n{note}")

    nearest = []
    for gan, rows in sources.items():
        copies, images = find_copied_volumes(train, held_out, rows, gan, settings)
        scores.append(copies)
        nearest.append(images)
    with atomic(snakemake.output.copies) as path:
        pd.concat(nearest, ignore_index=True).to_csv(path, index=False)
    table = consistency_table(pd.concat(scores, ignore_index=True), facts)
    note = f"{CONSISTENCY_NOTE}\n{planted_note(table, 'volumes')}\n{copies_note(table, settings.copy_quantile)}\n{note}"
    write_hiding_planted(table, *snakemake.output.consistency, note)
    consistency_figure({"real": described} | sources, snakemake.output.figure, facts)
