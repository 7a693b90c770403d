# The experiment: the same classifier trained on each arm, for several seeds.


rule screen_images:
    input:
        unpack(of_study("features", "gan")),
        manifest=COHORT["manifest"],
        split=rules.split_cohort.output.split,
        overrule=of_study("overruling_file"),
    output:
        verdicts=f"{RESULTS}/{{study}}/screening/{{gan}}.parquet",
    log:
        f"{RESULTS}/{{study}}/logs/screen_images/{{gan}}.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/screen_images/{{gan}}.tsv"
    conda:
        "../../envs/scangan.yaml"
    threads: network_threads
    params:
        settings=lookup(dpath="studies/{study}/synthesis/screening", within=config),
    script:
        "../scripts/screen_images.py"


rule train_classifier:
    input:
        unpack(of_study("arm_inputs", "arm")),
        images=COHORT["images"],
        manifest=COHORT["manifest"],
        split=rules.split_cohort.output.split,
        pretrained=of_study("pretrained_file"),
    output:
        weights=f"{RESULTS}/{{study}}/classifier/{{arm}}/seed{{seed}}/classifier.safetensors",
        history=f"{RESULTS}/{{study}}/classifier/{{arm}}/seed{{seed}}/history.csv",
        predictions=f"{RESULTS}/{{study}}/classifier/{{arm}}/seed{{seed}}/predictions.parquet",
    log:
        f"{RESULTS}/{{study}}/logs/train_classifier/{{arm}}/seed{{seed}}.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/train_classifier/{{arm}}/seed{{seed}}.tsv"
    wildcard_constraints:
        study=only(PLAN.images),
    conda:
        "../../envs/scangan.yaml"
    threads: network_threads
    resources:
        gpu=1,
    params:
        settings=of_study("classifier_settings", "arm"),
    script:
        "../scripts/train_classifier.py"
