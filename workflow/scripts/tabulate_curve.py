from scangan.jobs import job

with job(snakemake):
    import pandas as pd

    from scangan.facts import Facts
    from scangan.report.curve import metric_over_patients, write_curve

    facts = Facts(**snakemake.params.study)
    scores = pd.read_csv(snakemake.input.scores)
    write_curve(scores, *snakemake.output[0:2], facts)
    metric_over_patients(scores, snakemake.output.figure, facts)
