from scangan.jobs import job

with job(snakemake.log[0]):
    import pandas as pd

    from scangan.config import Split
    from scangan.data.split import read_split, split_cohort
    from scangan.data.store import atomic

    settings = Split.model_validate(snakemake.params.settings)
    manifest, rejected = pd.read_parquet(snakemake.input.manifest), pd.read_csv(snakemake.input.rejected, dtype=str)
    if settings.file is not None:
        split = read_split(settings.file, manifest, rejected.source)
    else:
        official = pd.read_csv(snakemake.input.official, dtype=str) if snakemake.input.official else None
        split = split_cohort(manifest, settings, len(rejected), official)
    with atomic(snakemake.output.split) as path:
        split.to_csv(path, index=False)
