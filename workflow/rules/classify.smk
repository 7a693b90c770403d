# The experiment: the same classifier trained on each arm, for several seeds.


rule screen_images:
    input:
        unpack(feature_files),
        manifest=COHORT["manifest"],
        split=rules.split_cohort.output.split,
        overrule=overruling_file,
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
        unpack(arm_inputs),
        images=COHORT["images"],
        manifest=COHORT["manifest"],
        split=rules.split_cohort.output.split,
        pretrained=pretrained_file,
    output:
        weights=f"{RESULTS}/{{study}}/classifier/{{arm}}/seed{{seed}}/classifier.safetensors",
        history=f"{RESULTS}/{{study}}/classifier/{{arm}}/seed{{seed}}/history.csv",
        predictions=f"{RESULTS}/{{study}}/classifier/{{arm}}/seed{{seed}}/predictions.parquet",
    log:
        f"{RESULTS}/{{study}}/logs/train_classifier/{{arm}}/seed{{seed}}.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/train_classifier/{{arm}}/seed{{seed}}.tsv"
    wildcard_constraints:
        study=only(READER),
    conda:
        "../../envs/scangan.yaml"
    threads: network_threads
    resources:
        gpu=1,
    params:
        settings=classifier_settings,
    script:
        "../scripts/train_classifier.py"
