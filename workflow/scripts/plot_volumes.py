from scangan.jobs import job

with job(snakemake):
    from scangan.data.volume_set import read_volume_set, split_volumes
    from scangan.facts import Facts
    from scangan.report.volume_figures import middle_figure, planes_figure, regions_figure, scroll_gif

    facts, window = Facts(**snakemake.params.study), tuple(snakemake.params.window)
    real = read_volume_set(snakemake.input.volumes, snakemake.input.manifests)
    drawn = map(read_volume_set, snakemake.input.synthetic_volumes, snakemake.input.synthetic_manifests)
    sets = dict(zip(snakemake.params.gans, drawn, strict=True))
    # Held-out ones, which no network has seen.
    sets = {"real": split_volumes(real, snakemake.input.split)["test"]} | sets
    first = {name: volumes.read(range(min(4, len(volumes)))) for name, volumes in sets.items()}
    planes_figure({name: volumes[0] for name, volumes in first.items()}, snakemake.output.planes, facts, window)
    fewest = min(map(len, first.values()))
    first = {name: volumes[:fewest] for name, volumes in first.items()}
    middle_figure(first, snakemake.output.middle, facts, window)
    regions_figure(first, snakemake.output.regions, facts, window)
    gan = snakemake.params.gan
    comment = f"synthetic chest CT by {gan}, trained on {facts.provenance}"
    scroll_gif(first[gan][0], snakemake.output.scroll, comment, window)
