from scangan.jobs import job

with job(snakemake):
    import pandas as pd

    from scangan.config import Evaluation
    from scangan.files import atomic
    from scangan.metrics.classification import read_predictions
    from scangan.metrics.curve import score_curve

    params = snakemake.params
    splits = (pd.read_csv(path, dtype=str, keep_default_na=False) for path in snakemake.input.splits)
    patients = [split.patient_id[split.split == "train"].nunique() for split in splits]
    files = iter(snakemake.input.predictions)
    wanted = params.folds * sum(map(len, params.gan_seeds.values()))
    predictions = {
        share: read_predictions([next(files) for _ in range(wanted)], params.gan_seeds, params.folds)
        for share in params.shares
    }
    settings = Evaluation.model_validate(params.settings)
    counts = dict(zip(params.shares, patients, strict=True))
    with atomic(snakemake.output.scores) as path:
        score_curve(predictions, counts, params.positive, settings, params.gan_seeds).to_csv(path, index=False)
