from scangan.jobs import job

with job(snakemake, snakemake.threads):
    from scangan.data.volume_set import read_volume_set
    from scangan.files import atomic
    from scangan.metrics.volumes import describe_volumes, extract_slices, write_slice_features

    volumes = read_volume_set(snakemake.input.volumes, snakemake.input.manifests)
    weights = snakemake.input.weights[0] if snakemake.input.weights else None
    window = tuple(snakemake.params.window)
    slices = extract_slices(volumes, **snakemake.params.settings, weights=weights, window=window)
    write_slice_features(snakemake.output.slices, slices)
    with atomic(snakemake.output.descriptions) as path:
        describe_volumes(volumes, window).to_parquet(path, index=False)
