from pathlib import Path

from scangan.jobs import job

with job(snakemake, snakemake.threads):
    from scangan.config import NoduleNetwork, Voi
    from scangan.data.voi import read_parts_of_vois
    from scangan.report.samples import write_trained
    from scangan.report.watch import watch_job
    from scangan.synthesis.nodules import Filling
    from scangan.training.adversarial import make_fabric
    from scangan.training.checkpoint import resume_folder
    from scangan.training.nodules import (
        eraser_pairs,
        injector_pairs,
        nodule_network_options,
        told_up_to_mm,
        train_nodule_gan,
    )

    network, voi = snakemake.wildcards.network, Voi.model_validate(snakemake.params.voi["voi"])
    settings = NoduleNetwork.model_validate(snakemake.params.settings)
    split = snakemake.input.split
    nodules, healthy = (
        read_parts_of_vois(snakemake.input[f"{kind}_voxels"], snakemake.input[f"{kind}_table"], split, ["train"])
        for kind in ("nodule", "healthy")
    )
    if network == "injector":
        pairs = injector_pairs(nodules["train"], healthy["train"])
    else:
        if (annotated := snakemake.params.voi["annotated"]) is not None:
            healthy["train"] = healthy["train"].select((healthy["train"].table.cohort != annotated).to_numpy())
        injector = Filling.read(*map(Path, snakemake.input.injector))
        pairs = eraser_pairs(injector.paste_into_vois(healthy["train"], voi.seed), healthy["train"])
    resume = resume_folder(snakemake.output.weights, dict(snakemake.params.items()), pairs.digests())
    fabric = make_fabric(settings.precision, devices=snakemake.resources.get("gpu", 1))
    asked = {"description": network, "watch": watch_job(snakemake, resume, network)}
    trained = train_nodule_gan(network, pairs, settings, voi, fabric, resume, **asked)
    if fabric.is_global_zero:
        write_trained(
            trained,
            snakemake.output,
            resume,
            study=snakemake.wildcards.study,
            model="nodule_cgan",
            options=nodule_network_options(network, settings, voi),
            channels=1,
            image_size=voi.size,
            margin_mm=voi.margin_mm,
            told_up_to_mm=told_up_to_mm(pairs, settings, voi),
            data=" and ".join(sorted(set(healthy["train"].table.data))),
            training_vois=len(pairs),
        )
