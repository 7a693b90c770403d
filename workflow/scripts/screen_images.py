from pathlib import Path

from scangan.jobs import job

with job(snakemake, snakemake.threads):
    import pandas as pd

    from scangan.config import Screening
    from scangan.data.split import split_parts
    from scangan.data.store import read_manifest
    from scangan.files import atomic
    from scangan.metrics.feature_sets import read_feature_set
    from scangan.metrics.screening import screen
    from scangan.models.catalogue import trained_against

    files, settings = snakemake.input, Screening.model_validate(snakemake.params.settings)
    manifest = pd.concat(map(read_manifest, files.synthetic_manifests), ignore_index=True)
    synthetic = read_feature_set(files.synthetic, manifest)
    parts = split_parts(read_feature_set(files.real, read_manifest(files.manifest)), files.split)
    overrule = next(iter(files.overrule), None)
    refused = snakemake.params.extractor in trained_against(files.descriptions)
    verdicts = screen(parts["train"], parts["validation"], synthetic, settings, overrule and Path(overrule), refused)
    with atomic(snakemake.output.verdicts) as path:
        verdicts.to_parquet(path, index=False)
