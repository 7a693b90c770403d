from scangan.jobs import job

with job(snakemake):
    import pandas as pd

    from scangan.config import Evaluation, Judge
    from scangan.facts import Facts
    from scangan.metrics.judge import judge_sets
    from scangan.report.judge_figure import judged_sets
    from scangan.report.tables import judge_table, write_table

    facts, seeds = Facts(**snakemake.params.study), snakemake.params.seeds
    settings = Judge.model_validate(snakemake.params.settings), Evaluation.model_validate(snakemake.params.evaluation)
    # Network by network, and of each all seeds.
    files = [snakemake.input.judgements[seed::seeds] for seed in range(seeds)]
    judgements = [pd.concat(map(pd.read_parquet, of_seed), ignore_index=True) for of_seed in files]
    predictions = [pd.read_parquet(path) for path in snakemake.input.predictions]
    shares = judge_sets(judgements, predictions, facts.positive, *settings)
    write_table(judge_table(shares, facts), *snakemake.output[0:2], index="variant")
    judged_sets(shares, snakemake.output.figure, facts)
