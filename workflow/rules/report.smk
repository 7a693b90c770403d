# The tables and figures that a study ends in, and its rows beside the papers'.


rule tabulate_classification:
    input:
        scores=rules.score.output.scores,
        split=rules.split_cohort.output.split,
        rejected=rules.ingest_images.output.rejected,
    output:
        classification=report_table("classification"),
        calibration=report_table("calibration"),
        cohort=report_table("cohort"),
    log:
        f"{RESULTS}/{{study}}/logs/tabulate_classification.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/tabulate_classification.tsv"
    conda:
        "../../envs/scangan.yaml"
    params:
        study=study_facts("pretrained"),
        code=code_digest("scangan.report.tables"),
    script:
        "../scripts/tabulate_classification.py"


rule tabulate_fidelity:
    input:
        fidelity=lambda wildcards: of_every_gan("fidelity/{gan}.csv", wildcards.study),
    output:
        fidelity=report_table("fidelity"),
    log:
        f"{RESULTS}/{{study}}/logs/tabulate_fidelity.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/tabulate_fidelity.tsv"
    conda:
        "../../envs/scangan.yaml"
    params:
        study=study_facts("extractor"),
        code=code_digest("scangan.report.tables"),
    script:
        "../scripts/tabulate_fidelity.py"


rule plot_classification:
    input:
        predictions=lambda wildcards: predictions(wildcards.study),
    output:
        roc=report_figure("roc"),
        reliability=report_figure("reliability"),
    log:
        f"{RESULTS}/{{study}}/logs/plot_classification.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/plot_classification.tsv"
    conda:
        "../../envs/scangan.yaml"
    params:
        arms=arms_and_seeds,
        study=study_facts("positive"),
        code=code_digest("scangan.report.classification_figures"),
    script:
        "../scripts/plot_classification.py"


rule plot_gan:
    input:
        unpack(lambda wildcards: synthetic_sets(wildcards.study, wildcards.gan)),
        images=rules.ingest_images.output.images,
        manifest=rules.ingest_images.output.manifest,
        split=rules.split_cohort.output.split,
        histories=lambda wildcards: expand(
            rules.train_gan.output.history, label=labels(wildcards.study), allow_missing=True
        ),
    output:
        images=report_figure("images", "figures/{gan}"),
        training=report_figure("training", "figures/{gan}"),
    log:
        f"{RESULTS}/{{study}}/logs/plot_gan/{{gan}}.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/plot_gan/{{gan}}.tsv"
    conda:
        "../../envs/scangan.yaml"
    params:
        study=study_facts(),
        code=code_digest("scangan.report.gan_figures", "scangan.data.split"),
    script:
        "../scripts/plot_gan.py"


rule compare_with_papers:
    input:
        classification=expand(f"{RESULTS}/{{study}}/tables/classification.csv", study=STUDIES),
        fidelity=expand(f"{RESULTS}/{{study}}/tables/fidelity.csv", study=STUDIES),
    output:
        csv=f"{RESULTS}/paper_comparison.csv",
        markdown=report(f"{RESULTS}/paper_comparison.md", caption="../report/paper_comparison.rst", category="Papers"),
    log:
        f"{RESULTS}/logs/compare_with_papers.log",
    benchmark:
        f"{RESULTS}/benchmarks/compare_with_papers.tsv"
    conda:
        "../../envs/scangan.yaml"
    params:
        studies=STUDIES,
        code=code_digest("scangan.report.paper_comparison"),
    script:
        "../scripts/compare_with_papers.py"
