from pathlib import Path

from scangan.jobs import job

with job(snakemake):
    import pandas as pd

    from scangan.data.duplicates import read_duplicates
    from scangan.data.patient_guess import describe_guess
    from scangan.facts import Facts
    from scangan.rejected import read_rejected, rejected_note
    from scangan.report.tables import cohort_table, duplicates_note, scans_note, split_note, write_table

    split, rejected = pd.read_csv(snakemake.input.split, dtype=str), read_rejected(snakemake.input.rejected)
    manifest = pd.read_parquet(snakemake.input.manifest)
    images = len(manifest)
    if scans := snakemake.input.get("scans"):
        tables = [pd.read_csv(path, keep_default_na=False) for path in scans]
        note = scans_note(pd.concat(tables, ignore_index=True), rejected, snakemake.input.rejected)
    else:
        note = rejected_note(rejected, images, "images", snakemake.input.rejected)
    copies = duplicates_note(
        read_duplicates(snakemake.input.duplicates),
        split,
        images,
        snakemake.input.duplicates,
        **snakemake.params.compared,
    )
    said = "".join(Path(path).read_text() for path in snakemake.input.notes)
    lines = (split_note(split, images), note, copies, describe_guess(split, manifest), said)
    table = cohort_table(split, rejected, Facts(**snakemake.params.study))
    write_table(table, *snakemake.output, index=None, note="\n".join(line.strip() for line in lines if line.strip()))
