from scangan.jobs import job

with job(snakemake, snakemake.threads):
    import pandas as pd

    from scangan.config import Fidelity
    from scangan.data.duplicates import copies_of, read_duplicates
    from scangan.data.split import select_split
    from scangan.data.store import read_image_set, read_image_sets, scale_images
    from scangan.files import atomic
    from scangan.metrics.encoder import read_encoder
    from scangan.metrics.feature_sets import read_feature_set
    from scangan.metrics.generators import JudgedSet, evaluate_generators
    from scangan.models.catalogue import is_conditional, trained_against

    files, settings = snakemake.input, Fidelity.model_validate(snakemake.params.settings)
    encoder = read_encoder(files.encoder[0]) if files.encoder else None
    refused = settings.extractor in trained_against(files.descriptions)
    drawn = read_image_sets(files.synthetic_images, files.synthetic_manifests)
    synthetic = JudgedSet.of(drawn, read_feature_set(files.synthetic, drawn.manifest), snakemake.threads)
    cohort = scale_images(read_image_set(files.images, files.manifest), drawn.images.shape[-1])
    real = JudgedSet.of(cohort, read_feature_set(files.real, cohort.manifest), snakemake.threads)
    split = pd.read_csv(files.split, dtype="str", keep_default_na=False)
    train, held_out = select_split(real, split, "train"), select_split(real, split, "validation", "test")
    copied = copies_of(train.manifest.image_id, read_duplicates(files.duplicates))
    gan = snakemake.wildcards.gan
    conditional = is_conditional(files.descriptions[0])
    tables = evaluate_generators(train, held_out, synthetic, gan, settings, copied, encoder, refused, conditional)
    for table, target in zip(tables, (snakemake.output.fidelity, snakemake.output.copies), strict=True):
        with atomic(target) as path:
            table.to_csv(path, index=False)
