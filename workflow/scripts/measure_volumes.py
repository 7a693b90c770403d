from scangan.jobs import job

AT_ONCE = 4  # volumes, each of which takes 30 bytes a voxel

with job(snakemake, snakemake.threads):
    import pandas as pd

    from scangan.data.volume_set import read_volume_set
    from scangan.files import atomic
    from scangan.metrics.volumes import describe_volumes, extract_slices

    volumes = read_volume_set(snakemake.input.volumes, snakemake.input.manifests)
    weights = snakemake.input.weights[0] if snakemake.input.weights else None
    window = tuple(snakemake.params.window)
    with atomic(snakemake.output.slices) as path:
        options = {"weights": weights, "window": window, "path": path, "threads": snakemake.threads}
        extract_slices(volumes, **snakemake.params.settings, **options)
    # Synthetic ones were described when they were drawn.
    described = [pd.read_parquet(path) for path in snakemake.input.get("described", [])]
    if not described:
        described = [describe_volumes(volumes, window, min(snakemake.threads, AT_ONCE))]
    table = pd.concat(described, ignore_index=True)
    with atomic(snakemake.output.descriptions) as path:
        table.to_parquet(path, index=False)
