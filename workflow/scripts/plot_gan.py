from scangan.jobs import job

with job(snakemake):
    import pandas as pd

    from scangan.data.split import read_parts
    from scangan.data.store import read_image_sets, scale_images
    from scangan.facts import Facts
    from scangan.report.gan_figures import images_by_class, side_by_side, training_curves

    facts = Facts(**snakemake.params.study)
    caption = f"{facts.study}, {snakemake.wildcards.gan}"
    synthetic = read_image_sets(snakemake.input.synthetic_images, snakemake.input.synthetic_manifests, hold=False)
    cohort = snakemake.input.images, snakemake.input.manifest, snakemake.input.split
    real = read_parts(*cohort, hold=False)["train"]
    real = scale_images(real, synthetic.images.shape[-1])
    columns = {"real": images_by_class(real), "synthetic": images_by_class(synthetic)}
    side_by_side(columns, snakemake.output.images, facts, caption)
    histories = dict(zip(snakemake.params.titles, map(pd.read_csv, snakemake.input.histories), strict=True))
    training_curves(histories, snakemake.output.training, facts, caption)
