# The generative networks, one of each kind for each class, and the images drawn from them.


rule train_gan:
    input:
        images=COHORT["images"],
        manifest=COHORT["manifest"],
        split=rules.split_cohort.output.split,
    output:
        weights=f"{RESULTS}/{{study}}/gan/{{gan}}/{{label}}/generator.safetensors",
        description=f"{RESULTS}/{{study}}/gan/{{gan}}/{{label}}/generator.json",
        history=f"{RESULTS}/{{study}}/gan/{{gan}}/{{label}}/history.csv",
        samples=f"{RESULTS}/{{study}}/gan/{{gan}}/{{label}}/samples.png",
    log:
        f"{RESULTS}/{{study}}/logs/train_gan/{{gan}}/{{label}}.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/train_gan/{{gan}}/{{label}}.tsv"
    conda:
        "../../envs/scangan.yaml"
    threads: 8
    resources:
        gpu=1,
    params:
        settings=lookup(dpath="studies/{study}/gan/{gan}", within=config),
        code=gan_code,
    script:
        "../scripts/train_gan.py"


rule synthesize:
    input:
        unpack(generator_files),
    output:
        images=f"{RESULTS}/{{study}}/synthetic/{{gan}}/{{label}}/shard{{shard}}.zarr.zip",
        manifest=f"{RESULTS}/{{study}}/synthetic/{{gan}}/{{label}}/shard{{shard}}.parquet",
    log:
        f"{RESULTS}/{{study}}/logs/synthesize/{{gan}}/{{label}}/shard{{shard}}.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/synthesize/{{gan}}/{{label}}/shard{{shard}}.tsv"
    conda:
        "../../envs/scangan.yaml"
    threads: 8
    resources:
        gpu=1,
    params:
        settings=shard_settings,
        code=code_digest("scangan.synthesis.images", "scangan.data.store"),
    script:
        "../scripts/synthesize.py"
