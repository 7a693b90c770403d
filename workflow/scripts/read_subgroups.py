from pathlib import Path

from scangan.jobs import job

with job(snakemake):
    import pandas as pd

    from scangan.config import LabelledImages
    from scangan.data.subgroups import subgroups_table
    from scangan.files import atomic
    from scangan.ingest.subgroups import find_subgroups

    settings = LabelledImages.model_validate(snakemake.params.settings)
    images = set(pd.read_parquet(snakemake.input.manifest, columns=["image_id"]).image_id)
    found = find_subgroups(Path(snakemake.input.folder), settings, snakemake.params.column, images)
    with atomic(snakemake.output.subgroups) as path:
        subgroups_table(found).to_csv(path, index=False)
