from pathlib import Path

from scangan.jobs import job

with job(snakemake, snakemake.threads):
    from scangan.config import NoduleNetwork, Voi
    from scangan.data.voi import read_parts_of_vois
    from scangan.files import atomic
    from scangan.models.catalogue import write_generator
    from scangan.report.samples import write_sample_grid
    from scangan.synthesis.nodules import Filling
    from scangan.training.adversarial import make_fabric
    from scangan.training.checkpoint import CheckpointStore, resume_folder
    from scangan.training.nodules import eraser_pairs, injector_pairs, nodule_network_options, train_nodule_gan

    network, voi = snakemake.wildcards.network, Voi.model_validate(snakemake.params.voi["voi"])
    settings = NoduleNetwork.model_validate(snakemake.params.settings)
    nodules, healthy = (
        read_parts_of_vois(snakemake.input[f"{kind}_voxels"], snakemake.input[f"{kind}_table"], snakemake.input.split)
        for kind in ("nodule", "healthy")
    )
    if network == "injector":
        pairs = injector_pairs(nodules["train"], healthy["train"])
    else:
        injector = Filling.read(*map(Path, snakemake.input.injector))
        pairs = eraser_pairs(injector.paste_into_vois(healthy["train"], voi.seed), healthy["train"])
    resume = resume_folder(snakemake.output.weights, dict(snakemake.params.items()), pairs.digests())
    fabric = make_fabric(settings.precision, devices=snakemake.resources.get("gpu", 1))
    trained = train_nodule_gan(network, pairs, settings, voi, fabric, resume, description=network)
    if fabric.is_global_zero:
        facts = {
            "study": snakemake.wildcards.study,
            "model": "nodule_cgan",
            "options": nodule_network_options(network, settings, voi),
            "channels": 1,
            "image_size": voi.size,
            "margin_mm": voi.margin_mm,
            "data": " and ".join(sorted(set(healthy["train"].table.data))),
            "training_vois": len(pairs),
            "steps": trained.steps,
        }
        write_generator(Path(snakemake.output.weights), Path(snakemake.output.description), trained.weights, **facts)
        with atomic(snakemake.output.history) as path:
            trained.history.to_csv(path, index=False)
        write_sample_grid(trained.samples, Path(snakemake.output.samples))
        CheckpointStore(resume).remove()
