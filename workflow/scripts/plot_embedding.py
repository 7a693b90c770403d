from scangan.jobs import job

with job(snakemake):
    import pandas as pd

    from scangan.facts import Facts
    from scangan.report.embedding_figure import NOTE, embedding_map, separation_table
    from scangan.report.tables import write_table

    facts, settings = Facts(**snakemake.params.study), snakemake.params.settings
    table = separation_table(pd.read_csv(snakemake.input.separation), facts)
    write_table(table, *snakemake.output[0:2], index="variant", note=NOTE)
    caption = f"{facts.study}; t-SNE, perplexity {settings['perplexity']:g}, {settings['iterations']} iterations"
    points = pd.read_parquet(snakemake.input.points)
    embedding_map(points, snakemake.output.figure, facts, caption)
