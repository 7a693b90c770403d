# How good the synthetic images are.


rule train_encoder:
    input:
        images=cohort_of("images"),
        manifest=cohort_of("manifest"),
        split=rules.split_cohort.output.split,
    output:
        encoder=f"{RESULTS}/{{study}}/encoder/{{image_size}}.safetensors",
    log:
        f"{RESULTS}/{{study}}/logs/train_encoder/{{image_size}}.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/train_encoder/{{image_size}}.tsv"
    conda:
        "../../envs/scangan.yaml"
    threads: network_threads
    params:
        settings=of_study("encoder_settings"),
    script:
        "../scripts/train_encoder.py"


rule measure_fidelity:
    input:
        unpack(of_study("measured", "gan", "gan_seed")),
        images=cohort_of("images"),
        manifest=cohort_of("manifest"),
        duplicates=cohort_of("duplicates"),
        split=rules.split_cohort.output.split,
    output:
        fidelity=f"{RESULTS}/{{study}}/fidelity/{{gan}}/seed{{gan_seed}}.csv",
        copies=f"{RESULTS}/{{study}}/fidelity/{{gan}}/seed{{gan_seed}}_copies.csv",
    log:
        f"{RESULTS}/{{study}}/logs/measure_fidelity/{{gan}}/seed{{gan_seed}}.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/measure_fidelity/{{gan}}/seed{{gan_seed}}.tsv"
    conda:
        "../../envs/scangan.yaml"
    threads: network_threads
    params:
        settings=settings_of("fidelity", "copy_quantile", "extractor", "resamples", "seed"),
    script:
        "../scripts/measure_fidelity.py"


rule score:
    input:
        predictions=of_study("predictions"),
    output:
        scores=f"{RESULTS}/{{study}}/classifier/scores.csv",
    log:
        f"{RESULTS}/{{study}}/logs/score.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/score.tsv"
    conda:
        "../../envs/scangan.yaml"
    params:
        folds=of_study("fold_count"),
        positive=setting("classifier/positive"),
        gan_seeds=of_study("gan_seeds_of_arms"),
    script:
        "../scripts/score.py"


rule compare_arms:
    input:
        predictions=of_study("predictions"),
    output:
        comparisons=f"{RESULTS}/{{study}}/classifier/comparisons.csv",
    log:
        f"{RESULTS}/{{study}}/logs/compare_arms.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/compare_arms.tsv"
    conda:
        "../../envs/scangan.yaml"
    params:
        folds=of_study("fold_count"),
        settings=settings_of("evaluation", "primary"),
        positive=setting("classifier/positive"),
        gan_seeds=of_study("gan_seeds_of_arms"),
    script:
        "../scripts/compare_arms.py"


rule score_curve:
    input:
        predictions=of_study("curve_predictions"),
        splits=of_study("curve_splits"),
    output:
        scores=f"{RESULTS}/{{study}}/classifier/curve_scores.csv",
    log:
        f"{RESULTS}/{{study}}/logs/score_curve.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/score_curve.tsv"
    conda:
        "../../envs/scangan.yaml"
    params:
        folds=of_study("fold_count"),
        gan_seeds=of_study("gan_seeds_of_arms"),
        positive=setting("classifier/positive"),
        settings=settings_of("evaluation", "primary"),
        shares=of_study("curve_shares"),
    script:
        "../scripts/score_curve.py"


rule judge_images:
    input:
        unpack(of_study("judged_images", "gan")),
        weights=of_study("judge_weights", "seed"),
    output:
        judgements=f"{RESULTS}/{{study}}/judge/{{gan}}/seed{{seed}}.parquet",
    log:
        f"{RESULTS}/{{study}}/logs/judge_images/{{gan}}/seed{{seed}}.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/judge_images/{{gan}}/seed{{seed}}.tsv"
    conda:
        "../../envs/scangan.yaml"
    threads: network_threads
    resources:
        gpu=1,
    params:
        settings=of_study("judge_settings"),
    script:
        "../scripts/judge_images.py"


rule judge_real_images:
    input:
        images=cohort_of("images"),
        manifest=cohort_of("manifest"),
        split=rules.split_cohort.output.split,
        weights=of_study("judge_weights", seed="0"),
    output:
        predictions=f"{RESULTS}/{{study}}/judge/real_images.parquet",
    log:
        f"{RESULTS}/{{study}}/logs/judge_real_images.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/judge_real_images.tsv"
    conda:
        "../../envs/scangan.yaml"
    threads: network_threads
    resources:
        gpu=1,
    params:
        settings=of_study("judge_settings"),
    script:
        "../scripts/judge_real_images.py"


rule score_shares:
    input:
        predictions=of_study("share_predictions"),
    output:
        scores=f"{RESULTS}/{{study}}/classifier/share_scores.csv",
    log:
        f"{RESULTS}/{{study}}/logs/score_shares.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/score_shares.tsv"
    conda:
        "../../envs/scangan.yaml"
    params:
        folds=of_study("fold_count"),
        positive=setting("classifier/positive"),
        gan_seeds=of_study("gan_seeds_of_shares"),
    script:
        "../scripts/score.py"


rule embed_images:
    input:
        unpack(of_study("screened_shards")),
        images=cohort_of("images"),
        manifest=cohort_of("manifest"),
        split=rules.split_cohort.output.split,
        weights=f"{RESULTS}/{{study}}/classifier/real/seed0/classifier.safetensors",
    output:
        points=f"{RESULTS}/{{study}}/embedding/points.parquet",
        separation=f"{RESULTS}/{{study}}/embedding/separation.csv",
        classical=report_figure("classical"),
    log:
        f"{RESULTS}/{{study}}/logs/embed_images.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/embed_images.tsv"
    conda:
        "../../envs/scangan.yaml"
    threads: network_threads
    params:
        settings=of_study("embedding_settings"),
        study=facts(),
    script:
        "../scripts/embed_images.py"


rule open_reading_room:
    input:
        unpack(of_study("screened_shards")),
        images=cohort_of("images"),
        manifest=cohort_of("manifest"),
        split=rules.split_cohort.output.split,
    output:
        page=f"{RESULTS}/{{study}}/reading_room/index.html",
        answers=f"{RESULTS}/{{study}}/reading_room/answers.csv",
    log:
        f"{RESULTS}/{{study}}/logs/open_reading_room.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/open_reading_room.tsv"
    conda:
        "../../envs/scangan.yaml"
    params:
        settings=settings_of("reading_room", "images", "seed"),
        labels=of_study("labels"),
        study=facts(),
    script:
        "../scripts/open_reading_room.py"


rule simulate_reader:
    input:
        answers=rules.open_reading_room.output.answers,
    output:
        reading=f"{RESULTS}/{{study}}/reading_room/simulated/reader{{number}}.csv",
    log:
        f"{RESULTS}/{{study}}/logs/simulate_reader/{{number}}.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/simulate_reader/{{number}}.tsv"
    conda:
        "../../envs/scangan.yaml"
    params:
        settings=settings_of("reading_room", "seed", "simulated_skill"),
    script:
        "../scripts/simulate_reader.py"


rule score_readers:
    input:
        readings=of_study("readings"),
        answers=rules.open_reading_room.output.answers,
    output:
        readers=report_table("readers"),
    log:
        f"{RESULTS}/{{study}}/logs/score_readers.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/score_readers.tsv"
    conda:
        "../../envs/scangan.yaml"
    script:
        "../scripts/score_readers.py"
