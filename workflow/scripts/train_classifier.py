from pathlib import Path

from scangan.jobs import job

with job(snakemake.log[0], snakemake.threads):
    from scangan.config import Classifier
    from scangan.data.screened import read_screened
    from scangan.data.split import draw_share, read_parts
    from scangan.data.store import atomic
    from scangan.models.catalogue import write_weights
    from scangan.training.checkpoint import CheckpointStore, resume_folder
    from scangan.training.supervised import predict_parts, train_classifier

    arm, seed = snakemake.wildcards.arm, int(snakemake.wildcards.seed)
    settings = Classifier.model_validate(snakemake.params.settings)
    parts = read_parts(snakemake.input.images, snakemake.input.manifest, snakemake.input.split)
    synthetic = None
    if "synthetic" in arm:
        files = [snakemake.input[name] for name in ("synthetic_images", "synthetic_manifests", "verdicts")]
        synthetic = read_screened(*files)
        if share := arm.partition("-x")[2]:
            synthetic = draw_share(synthetic, parts["train"], float(share), seed)
    sets = [parts["train"], parts["validation"], *([synthetic] if synthetic else [])]
    checksums = [checksum for images in sets for checksum in images.manifest.sha256]
    resume = resume_folder(snakemake.output.weights, dict(snakemake.params.items()), checksums)
    trained = train_classifier(arm, parts["train"], parts["validation"], synthetic, settings, seed, resume)
    write_weights(Path(snakemake.output.weights), trained.state_dict)
    trained.history.to_csv(snakemake.output.history, index=False)
    parts.pop("train")
    with atomic(snakemake.output.predictions) as path:
        predict_parts(trained.model, parts, settings.batch_size).to_parquet(path, index=False)
    CheckpointStore(resume).remove()
