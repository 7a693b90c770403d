from pathlib import Path

from scangan.jobs import job

with job(snakemake.log[0], snakemake.threads):
    from scangan.config import NoduleNetwork, Voi
    from scangan.data.voi import read_parts_of_vois
    from scangan.models.catalogue import write_generator
    from scangan.report.samples import write_sample_grid
    from scangan.synthesis.nodules import Filling
    from scangan.training.adversarial import make_fabric
    from scangan.training.checkpoint import CheckpointStore, resume_folder
    from scangan.training.nodules import eraser_pairs, injector_pairs, nodule_gan, train_nodule_gan

    network, voi = snakemake.wildcards.network, Voi.model_validate(snakemake.params.voi["voi"])
    settings = nodule_gan(network, NoduleNetwork.model_validate(snakemake.params.settings), voi)
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
    trained = train_nodule_gan(pairs, settings, fabric, resume, description=network)
    if fabric.is_global_zero:
        facts = {
            "study": snakemake.wildcards.study,
            "model": "nodule_cgan",
            "options": settings.options(),
            "channels": 1,
            "image_size": voi.size,
            "margin_mm": voi.margin_mm,
            "data": " and ".join(sorted(set(healthy["train"].table.data))),
            "training_vois": len(pairs),
            "steps": trained.steps,
        }
        write_generator(Path(snakemake.output.weights), Path(snakemake.output.description), trained.weights, **facts)
        trained.history.to_csv(snakemake.output.history, index=False)
        write_sample_grid(trained.samples, Path(snakemake.output.samples))
        CheckpointStore(resume).remove()
