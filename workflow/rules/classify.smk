# The experiment: the same classifier trained on each arm, for several seeds of it and of the generator.


rule screen_images:
    input:
        unpack(of_study("features", "gan", "gan_seed")),
        manifest=cohort_of("manifest"),
        split=rules.split_cohort.output.split,
        descriptions=of_study("described", "gan", "gan_seed"),
        overrule=of_study("overruling_file", "gan", "gan_seed"),
    output:
        verdicts=f"{RESULTS}/{{study}}/screening/{{gan}}/seed{{gan_seed}}.parquet",
    log:
        f"{RESULTS}/{{study}}/logs/screen_images/{{gan}}/seed{{gan_seed}}.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/screen_images/{{gan}}/seed{{gan_seed}}.tsv"
    conda:
        "../../envs/scangan.yaml"
    threads: network_threads
    params:
        settings=settings_of("synthesis/screening", "kept", "most_discarded", "neighbours", "quantile"),  # `overrule` is an input
        extractor=setting("fidelity/extractor"),
    script:
        "../scripts/screen_images.py"


rule train_classifier:
    input:
        unpack(of_study("arm_inputs", "arm", "training")),
        images=cohort_of("images"),
        manifest=cohort_of("manifest"),
        split=rules.split_cohort.output.split,
        pretrained=of_study("pretrained_file"),
    output:
        weights=of_classifier(f"{RESULTS}/{{study}}/classifier/{{arm}}/{{training}}/classifier.safetensors"),
        history=f"{RESULTS}/{{study}}/classifier/{{arm}}/{{training}}/history.csv",
        predictions=f"{RESULTS}/{{study}}/classifier/{{arm}}/{{training}}/predictions.parquet",
    log:
        f"{RESULTS}/{{study}}/logs/train_classifier/{{arm}}/{{training}}.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/train_classifier/{{arm}}/{{training}}.tsv"
    wildcard_constraints:
        study=only(PLAN.images),
    conda:
        "../../envs/scangan.yaml"
    threads: network_threads
    resources:
        gpu=1,
    params:
        classes=of_study("classes"),
        settings=of_study("classifier_settings", "arm"),
    script:
        "../scripts/train_classifier.py"


rule predict_external:
    input:
        unpack(of_study("external_cohort")),
        tested=rules.check_external.output.tested,
        weights=rules.train_classifier.output.weights,
    output:
        predictions=f"{RESULTS}/{{study}}/classifier/{{arm}}/{{training}}/external.parquet",
    log:
        f"{RESULTS}/{{study}}/logs/predict_external/{{arm}}/{{training}}.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/predict_external/{{arm}}/{{training}}.tsv"
    wildcard_constraints:
        study=only(PLAN.images),
    conda:
        "../../envs/scangan.yaml"
    threads: network_threads
    resources:
        gpu=1,
    params:
        settings=of_study("predicting_network"),
    script:
        "../scripts/predict_external.py"
