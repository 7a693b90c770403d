# How good the synthetic images are.


rule measure_fidelity:
    input:
        unpack(lambda wildcards: synthetic_sets(wildcards.study, wildcards.gan)),
        images=COHORT["images"],
        manifest=COHORT["manifest"],
        split=rules.split_cohort.output.split,
        weights=own_file("fidelity", "weights"),
    output:
        fidelity=f"{RESULTS}/{{study}}/fidelity/{{gan}}.csv",
        copies=f"{RESULTS}/{{study}}/fidelity/{{gan}}_copies.csv",
    log:
        f"{RESULTS}/{{study}}/logs/measure_fidelity/{{gan}}.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/measure_fidelity/{{gan}}.tsv"
    conda:
        "../../envs/scangan.yaml"
    threads: 8
    resources:
        gpu=1,
    params:
        settings=lookup(dpath="studies/{study}/fidelity", within=config),
        code=code_digest("scangan.metrics.generators", "scangan.data.split"),
    script:
        "../scripts/measure_fidelity.py"


rule score:
    input:
        predictions=lambda wildcards: predictions(wildcards.study),
    output:
        scores=f"{RESULTS}/{{study}}/classifier/scores.csv",
    log:
        f"{RESULTS}/{{study}}/logs/score.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/score.tsv"
    conda:
        "../../envs/scangan.yaml"
    params:
        settings=lookup(dpath="studies/{study}/evaluation", within=config),
        positive=lookup(dpath="studies/{study}/classifier/positive", within=config),
        arms=arms_and_seeds,
        code=code_digest("scangan.metrics.classification"),
    script:
        "../scripts/score.py"


rule judge_images:
    input:
        unpack(judged_images),
        weights=f"{RESULTS}/{{study}}/classifier/real/seed{{seed}}/classifier.safetensors",
    output:
        judgements=f"{RESULTS}/{{study}}/judge/{{gan}}/seed{{seed}}.parquet",
    log:
        f"{RESULTS}/{{study}}/logs/judge_images/{{gan}}/seed{{seed}}.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/judge_images/{{gan}}/seed{{seed}}.tsv"
    conda:
        "../../envs/scangan.yaml"
    threads: 8
    resources:
        gpu=1,
    params:
        settings=judge_settings,
        code=code_digest("scangan.training.supervised", "scangan.models.backbones", "scangan.data.images"),
    script:
        "../scripts/judge_images.py"
