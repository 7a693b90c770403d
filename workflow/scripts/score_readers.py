from scangan.jobs import job

with job(snakemake):
    from scangan.files import atomic
    from scangan.metrics.reading import score_readers
    from scangan.report.reading_room import readers_table
    from scangan.report.tables import to_markdown

    scores = score_readers(snakemake.input.readings, snakemake.input.answers)
    with atomic(snakemake.output[0]) as csv, atomic(snakemake.output[1]) as markdown:
        scores.to_csv(csv, index=False)
        markdown.write_text(to_markdown(readers_table(scores), index=None), encoding="utf-8")
