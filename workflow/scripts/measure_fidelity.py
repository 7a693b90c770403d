from scangan.jobs import job

with job(snakemake.log[0], snakemake.threads):
    import pandas as pd

    from scangan.config import Fidelity
    from scangan.data.split import split_parts
    from scangan.data.store import read_manifest
    from scangan.files import atomic
    from scangan.metrics.feature_sets import FeatureSet, read_feature_set
    from scangan.metrics.generators import evaluate_generators

    files, settings = snakemake.input, Fidelity.model_validate(snakemake.params.settings)
    manifest = pd.concat(map(read_manifest, files.synthetic_manifests), ignore_index=True)
    synthetic = read_feature_set(files.synthetic, manifest)
    parts = split_parts(read_feature_set(files.real, read_manifest(files.manifest)), files.split)
    held_out = FeatureSet.concatenate([parts["validation"], parts["test"]])
    tables = evaluate_generators(parts["train"], held_out, synthetic, snakemake.wildcards.gan, settings)
    for table, target in zip(tables, (snakemake.output.fidelity, snakemake.output.copies), strict=True):
        with atomic(target) as path:
            table.to_csv(path, index=False)
