from scangan.jobs import job

with job(snakemake.log[0]):
    import pandas as pd

    from scangan.data.split import read_parts
    from scangan.data.store import read_image_sets
    from scangan.report.gan_figures import images_by_class, real_and_synthetic, training_curves

    facts, gan = snakemake.params.study, snakemake.wildcards.gan
    footer = (facts["data"], facts["scale"], f"{facts['study']}, {gan}")
    real = read_parts(snakemake.input.images, snakemake.input.manifest, snakemake.input.split)["train"]
    synthetic = read_image_sets(snakemake.input.synthetic_images, snakemake.input.synthetic_manifests)
    shown = [images_by_class(images) for images in (real, synthetic)]
    real_and_synthetic(*shown, snakemake.output.images, *footer)
    histories = {path.split("/")[-2]: pd.read_csv(path) for path in snakemake.input.histories}
    training_curves(histories, snakemake.output.training, *footer)
