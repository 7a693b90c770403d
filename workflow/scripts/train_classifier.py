from pathlib import Path

from scangan.jobs import job

with job(snakemake, snakemake.threads):
    from scangan.arms import arm_of_folder, find_training
    from scangan.config import Classifier
    from scangan.data.screened import count_screened, read_screened
    from scangan.data.split import draw_share, read_parts, repeat_images
    from scangan.files import atomic
    from scangan.models.catalogue import write_weights
    from scangan.training.checkpoint import CheckpointStore, resume_folder
    from scangan.training.supervised import predict_parts, train_classifier

    arm, seed = arm_of_folder(snakemake.wildcards.arm), find_training(snakemake.wildcards.training).seed
    settings, classes = Classifier.model_validate(snakemake.params.settings), snakemake.params.classes
    parts = read_parts(snakemake.input.images, snakemake.input.manifest, snakemake.input.split)
    added = None
    if arm.reads_synthetic:
        files = [snakemake.input[name] for name in ("synthetic_images", "synthetic_manifests", "verdicts")]
        added = read_screened(*files)
        if arm.synthetic_share is not None:
            added = draw_share(added, parts["train"], arm.synthetic_share, seed)
    elif arm.reads_copies:
        counts = count_screened(snakemake.input.synthetic_manifests, snakemake.input.verdicts)
        added = repeat_images(parts["train"], counts, seed)
    sets = [parts["train"], parts["validation"], *([added] if added else [])]
    checksums = [checksum for images in sets for checksum in images.manifest.sha256]
    resume = resume_folder(snakemake.output.weights, dict(snakemake.params.items()), checksums)
    trained = train_classifier(arm, parts["train"], parts["validation"], added, settings, seed, resume, classes=classes)
    write_weights(Path(snakemake.output.weights), trained.state_dict)
    with atomic(snakemake.output.history) as path:
        trained.history.to_csv(path, index=False)
    parts.pop("train")
    with atomic(snakemake.output.predictions) as path:
        predictions = predict_parts(trained.model, parts, settings.batch_size, settings.positive, classes)
        predictions.to_parquet(path, index=False)
    CheckpointStore(resume).remove()
