from scangan.jobs import job

with job(snakemake):
    from scangan.metrics.reading import simulate_reader

    settings, number = snakemake.params.settings, int(snakemake.wildcards.number)
    skill, seed = settings["simulated_skill"], settings["seed"]
    simulate_reader(snakemake.input.answers, snakemake.output.reading, skill, seed, number)
