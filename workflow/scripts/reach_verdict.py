from scangan.jobs import job

with job(snakemake):
    import pandas as pd

    from scangan.config import Evaluation
    from scangan.facts import Facts
    from scangan.metrics.convergence import count_unconverged, read_histories
    from scangan.metrics.verdict import reach_verdict
    from scangan.report.verdict import write_verdict

    facts = Facts(**snakemake.params.study)
    comparisons = pd.read_csv(snakemake.input.comparisons)
    histories = read_histories(snakemake.input.histories, snakemake.params.gan_seeds, snakemake.params.folds)
    unconverged = count_unconverged(histories, snakemake.params.patience)
    settings = Evaluation.model_validate(snakemake.params.settings)
    verdict = reach_verdict(comparisons, unconverged, settings, facts, snakemake.params.own_gan)
    write_verdict(verdict, comparisons, settings, facts, *snakemake.output)
