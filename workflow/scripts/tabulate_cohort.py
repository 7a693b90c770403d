from scangan.jobs import job

with job(snakemake.log[0]):
    import pandas as pd

    from scangan.facts import Facts
    from scangan.rejected import read_rejected, rejected_note
    from scangan.report.tables import cohort_table, scans_note, split_note, write_table

    split, rejected = pd.read_csv(snakemake.input.split, dtype=str), read_rejected(snakemake.input.rejected)
    images = len(pd.read_parquet(snakemake.input.manifest, columns=["image_id"]))
    if scans := snakemake.input.get("scans"):
        tables = [pd.read_csv(path, keep_default_na=False) for path in scans]
        note = scans_note(pd.concat(tables, ignore_index=True), rejected, snakemake.input.rejected)
    else:
        note = rejected_note(rejected, images, "images", snakemake.input.rejected)
    table = cohort_table(split, rejected, Facts(**snakemake.params.study))
    write_table(table, *snakemake.output, index=None, note=f"{split_note(split, images)}\n{note}")
