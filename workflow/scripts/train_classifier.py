from pathlib import Path

from scangan.jobs import job

with job(snakemake, snakemake.threads):
    from scangan.arms import find_arm
    from scangan.config import Classifier
    from scangan.data.screened import read_screened
    from scangan.data.split import draw_share, read_parts
    from scangan.files import atomic
    from scangan.models.catalogue import write_weights
    from scangan.training.checkpoint import CheckpointStore, resume_folder
    from scangan.training.supervised import predict_parts, train_classifier

    arm, seed = find_arm(snakemake.wildcards.arm), int(snakemake.wildcards.seed)
    settings = Classifier.model_validate(snakemake.params.settings)
    parts = read_parts(snakemake.input.images, snakemake.input.manifest, snakemake.input.split)
    synthetic = None
    if arm.reads_synthetic:
        files = [snakemake.input[name] for name in ("synthetic_images", "synthetic_manifests", "verdicts")]
        synthetic = read_screened(*files)
        if arm.synthetic_share is not None:
            synthetic = draw_share(synthetic, parts["train"], arm.synthetic_share, seed)
    sets = [parts["train"], parts["validation"], *([synthetic] if synthetic else [])]
    checksums = [checksum for images in sets for checksum in images.manifest.sha256]
    resume = resume_folder(snakemake.output.weights, dict(snakemake.params.items()), checksums)
    trained = train_classifier(arm, parts["train"], parts["validation"], synthetic, settings, seed, resume)
    write_weights(Path(snakemake.output.weights), trained.state_dict)
    with atomic(snakemake.output.history) as path:
        trained.history.to_csv(path, index=False)
    parts.pop("train")
    with atomic(snakemake.output.predictions) as path:
        predict_parts(trained.model, parts, settings.batch_size).to_parquet(path, index=False)
    CheckpointStore(resume).remove()
