from scangan.jobs import job

with job(snakemake) as log:
    import pandas as pd

    from scangan.config import Split
    from scangan.data.duplicates import log_divided, read_duplicates
    from scangan.data.needs import check_needs
    from scangan.data.patient_guess import describe_guess
    from scangan.data.split import read_split, split_cohort
    from scangan.files import atomic
    from scangan.rejected import read_rejected

    settings = Split.model_validate(snakemake.params.settings)
    manifest, rejected = pd.read_parquet(snakemake.input.manifest), read_rejected(snakemake.input.rejected)
    if settings.file is not None:
        split = read_split(settings.file, manifest, rejected.source)
    else:
        official = next((pd.read_csv(path, dtype=str) for path in snakemake.input.official), None)
        split = split_cohort(manifest, settings, int(rejected.counted.sum()), official)
    log_divided(read_duplicates(snakemake.input.duplicates), split)
    if warning := describe_guess(split, manifest):
        log.warning("split: %s", warning)
    if snakemake.params.needs is not None:
        check_needs(split, snakemake.params.needs, "split")
    with atomic(snakemake.output.split) as path:
        split.to_csv(path, index=False)
