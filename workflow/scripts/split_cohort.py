from scangan.jobs import job

with job(snakemake.log[0]):
    import pandas as pd

    from scangan.config import Split
    from scangan.data.split import read_split, split_cohort
    from scangan.data.store import atomic

    settings = Split.model_validate(snakemake.params.settings)
    manifest = pd.read_parquet(snakemake.input.manifest)
    if settings.file is not None:
        split = read_split(settings.file, manifest)
    else:
        split = split_cohort(manifest, settings, rejected=len(pd.read_csv(snakemake.input.rejected)))
    with atomic(snakemake.output.split) as path:
        split.to_csv(path, index=False)
