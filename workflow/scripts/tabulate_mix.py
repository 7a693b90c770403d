from scangan.jobs import job

with job(snakemake):
    import pandas as pd

    from scangan.config import Evaluation
    from scangan.facts import Facts
    from scangan.files import atomic
    from scangan.metrics.scanner import compare_sizes, scanner_test
    from scangan.rejected import left_out_note
    from scangan.report.nodule_edit_figures import find_edits, slice_figure
    from scangan.report.nodule_tables import CLEAR, CLEAR_NOTE, SCANNER_NOTE, mix_table
    from scangan.report.tables import write_table

    facts = Facts(**snakemake.params.study)
    mix = pd.read_csv(snakemake.input.mix, keep_default_na=False)
    nodules, done, rejected, places = (
        pd.concat(map(pd.read_parquet, snakemake.input[name]), ignore_index=True)
        for name in ("nodules", "done", "rejected", "places")
    )
    # What came of it: a scan whose nodule could not be erased still has one.
    has = mix.scan_id.isin(nodules.scan_id).map({True: "nodules", False: "none"})
    mix = mix.assign(label_after=has)
    for table, name in ((done, "done"), (rejected, "rejected"), (mix, "labels")):
        with atomic(snakemake.output[name]) as path:
            table.to_csv(path, index=False)
    note = left_out_note(rejected, snakemake.output.rejected)
    negatives = snakemake.params.negatives
    if CLEAR in negatives.values():
        note = f"{CLEAR_NOTE}\n{note}"
    write_table(mix_table(mix, done, rejected, negatives, facts), *snakemake.output.mix, index=None, note=note)
    before, after = mix, mix.assign(label=mix.label_after)
    settings = Evaluation.model_validate(snakemake.params.evaluation)
    table = pd.concat([scanner_test(before, after, settings, facts, places), compare_sizes(places, facts)])
    write_table(table, *snakemake.output.scanner, index="variant", note=SCANNER_NOTE)
    scans = pd.concat(map(pd.read_parquet, snakemake.input.scans), ignore_index=True)
    scans = scans[scans.scan_id.isin(mix.scan_id)]
    edits = find_edits(done, scans, snakemake.input.before, snakemake.input.after)
    slice_figure(edits, snakemake.output.figure, facts)
