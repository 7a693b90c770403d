# The generative networks, one of each kind for each class and seed, or for all classes; the images drawn from them, also for
# other programs, and what a network sees in these.


rule train_gan:
    input:
        images=cohort_of("images"),
        manifest=cohort_of("manifest"),
        split=rules.split_cohort.output.split,
    output:
        weights=f"{RESULTS}/{{study}}/gan/{{gan}}/seed{{gan_seed}}/{{label}}/generator.safetensors",
        description=f"{RESULTS}/{{study}}/gan/{{gan}}/seed{{gan_seed}}/{{label}}/generator.json",
        history=f"{RESULTS}/{{study}}/gan/{{gan}}/seed{{gan_seed}}/{{label}}/history.csv",
        samples=f"{RESULTS}/{{study}}/gan/{{gan}}/seed{{gan_seed}}/{{label}}/samples.png",
    log:
        f"{RESULTS}/{{study}}/logs/train_gan/{{gan}}/seed{{gan_seed}}/{{label}}.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/train_gan/{{gan}}/seed{{gan_seed}}/{{label}}.tsv"
    conda:
        "../../envs/scangan.yaml"
    threads: network_threads
    resources:
        gpu=1,
    params:
        settings=of_study("gan_settings", "gan", "gan_seed"),
    script:
        "../scripts/train_gan.py"


# One network that draws all classes.
rule train_conditional_gan:
    input:
        images=cohort_of("images"),
        manifest=cohort_of("manifest"),
        split=rules.split_cohort.output.split,
    output:
        weights=f"{RESULTS}/{{study}}/gan/{{gan}}/seed{{gan_seed}}/generator.safetensors",
        description=f"{RESULTS}/{{study}}/gan/{{gan}}/seed{{gan_seed}}/generator.json",
        history=f"{RESULTS}/{{study}}/gan/{{gan}}/seed{{gan_seed}}/history.csv",
        samples=f"{RESULTS}/{{study}}/gan/{{gan}}/seed{{gan_seed}}/samples.png",
    log:
        f"{RESULTS}/{{study}}/logs/train_conditional_gan/{{gan}}/seed{{gan_seed}}.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/train_conditional_gan/{{gan}}/seed{{gan_seed}}.tsv"
    wildcard_constraints:
        study=only(PLAN.images),
    conda:
        "../../envs/scangan.yaml"
    threads: network_threads
    resources:
        gpu=1,
    params:
        labels=of_study("labels"),
        settings=of_study("gan_settings", "gan", "gan_seed"),
    script:
        "../scripts/train_conditional_gan.py"


rule synthesize:
    input:
        unpack(of_study("generator", "gan", "gan_seed", "label")),
    output:
        images=f"{RESULTS}/{{study}}/synthetic/{{gan}}/seed{{gan_seed}}/{{label}}/shard{{shard}}.zarr.zip",
        manifest=f"{RESULTS}/{{study}}/synthetic/{{gan}}/seed{{gan_seed}}/{{label}}/shard{{shard}}.parquet",
    log:
        f"{RESULTS}/{{study}}/logs/synthesize/{{gan}}/seed{{gan_seed}}/{{label}}/shard{{shard}}.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/synthesize/{{gan}}/seed{{gan_seed}}/{{label}}/shard{{shard}}.tsv"
    wildcard_constraints:
        study=only(PLAN.images),
    conda:
        "../../envs/scangan.yaml"
    threads: network_threads
    resources:
        gpu=1,
    params:
        settings=of_study("shard_settings", "gan", "gan_seed", "shard"),
    script:
        "../scripts/synthesize.py"


# On request alone: no study ends in it.
rule export_images:
    input:
        unpack(of_study("exported", "gan", "label")),
    output:
        folder=directory(f"{RESULTS}/{{study}}/exported/{{gan}}/{{label}}"),
    log:
        f"{RESULTS}/{{study}}/logs/export_images/{{gan}}/{{label}}.log",
    wildcard_constraints:
        study=only(PLAN.images),
    conda:
        "../../envs/scangan.yaml"
    threads: network_threads
    resources:
        gpu=1,
    params:
        settings=of_study("export_settings", "gan"),
        licence=setting("data/licence"),
        study=facts("extractor"),
    script:
        "../scripts/export_images.py"


rule extract_features:
    input:
        unpack(of_study("drawn", "gan", "gan_seed")),
        weights=of_study("feature_weights"),
    output:
        features=f"{RESULTS}/{{study}}/features/{{gan}}/seed{{gan_seed}}.safetensors",
    log:
        f"{RESULTS}/{{study}}/logs/extract_features/{{gan}}/seed{{gan_seed}}.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/extract_features/{{gan}}/seed{{gan_seed}}.tsv"
    conda:
        "../../envs/scangan.yaml"
    threads: network_threads
    resources:
        gpu=1,
    params:
        settings=of_study("feature_settings"),
    script:
        "../scripts/extract_features.py"


# Once a size of synthetic images, whatever the number of networks, and for all parts of the split.
use rule extract_features as extract_real_features with:
    input:
        images=[COHORT["images"]],
        manifests=[COHORT["manifest"]],
        weights=of_study("feature_weights"),
    output:
        features=f"{RESULTS}/{{study}}/features/real/{{image_size}}.safetensors",
    log:
        f"{RESULTS}/{{study}}/logs/extract_real_features/{{image_size}}.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/extract_real_features/{{image_size}}.tsv"
