from scangan.jobs import job

with job(snakemake):
    import pandas as pd

    from scangan.facts import Facts
    from scangan.report.classification_tables import write_scores
    from scangan.report.share_figure import accuracy_over_share, share_table

    facts = Facts(**snakemake.params.study)
    scores = pd.read_csv(snakemake.input.scores)
    split = pd.read_csv(snakemake.input.split, dtype=str)
    label = "label_after" if "label_after" in split else "label"  # of volumes: that after the mix
    real_images = split[split.split == "train"][label].value_counts()
    write_scores(share_table(scores, real_images, facts), *snakemake.output[0:2], index="share")
    accuracy_over_share(scores, snakemake.output.figure, facts)
