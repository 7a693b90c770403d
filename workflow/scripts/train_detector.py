from pathlib import Path

from scangan.jobs import job

with job(snakemake, snakemake.threads):
    from scangan.arms import arm_of_folder, find_training
    from scangan.config import Classifier
    from scangan.data.split import draw_share, repeat_images
    from scangan.data.volume_set import count_volumes, read_volume_set, split_volumes
    from scangan.files import atomic
    from scangan.models.catalogue import write_weights
    from scangan.training.checkpoint import CheckpointStore, resume_folder
    from scangan.training.detector import predict_detector, train_detector

    arm, seed = arm_of_folder(snakemake.wildcards.arm), find_training(snakemake.wildcards.training).seed
    window = tuple(snakemake.params.window)
    settings = Classifier.model_validate(snakemake.params.settings)
    versions = ["free", "mixed", "sized"] + ["synthetic"] * arm.reads_synthetic
    sets = {
        name: read_volume_set(snakemake.input[f"{name}_volumes"], snakemake.input[f"{name}_manifests"]).keep_in_memory()
        for name in versions
    }
    mixed = split_volumes(sets["mixed"], snakemake.input.split)
    free = split_volumes(sets["free"], snakemake.input.split)
    added = sets.get("synthetic")
    if arm.synthetic_share is not None:
        added = draw_share(added, mixed["train"], arm.synthetic_share, seed)
    elif arm.reads_copies:
        added = repeat_images(mixed["train"], count_volumes(snakemake.input.synthetic_manifests), seed)
    known = [mixed["train"], mixed["validation"], *([added] if added else [])]
    checksums = [checksum for volumes in known for checksum in volumes.manifest.sha256]
    resume = resume_folder(snakemake.output.weights, dict(snakemake.params.items()), checksums)
    trained = train_detector(arm, mixed["train"], mixed["validation"], added, settings, window, seed, resume)
    write_weights(Path(snakemake.output.weights), trained.state_dict)
    with atomic(snakemake.output.history) as path:
        trained.history.to_csv(path, index=False)
    parts = {"validation": mixed["validation"], "test": mixed["test"], "free": free["test"], "sized": sets["sized"]}
    with atomic(snakemake.output.predictions) as path:
        predict_detector(trained.model, parts, window, settings.batch_size).to_parquet(path, index=False)
    CheckpointStore(resume).remove()
