from scangan.jobs import job

with job(snakemake.log[0]):
    import pandas as pd

    from scangan.report.embedding_figure import NOTE, embedding_map
    from scangan.report.tables import write_table

    facts, settings = snakemake.params.study, snakemake.params.settings
    separation = pd.read_csv(snakemake.input.separation).assign(**facts)
    separation["variant"] = separation.pop("space") + ": " + separation["variant"]
    write_table(separation, *snakemake.output[0:2], index="variant", note=NOTE)
    caption = f"{facts['study']}; t-SNE, perplexity {settings['perplexity']:g}, {settings['iterations']} iterations"
    points = pd.read_parquet(snakemake.input.points)
    embedding_map(points, snakemake.output.figure, facts["data"], facts["scale"], caption)
