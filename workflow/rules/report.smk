# The tables and figures that a study ends in, and its rows beside the papers'.


rule tabulate_cohort:
    input:
        manifest=COHORT["manifest"],
        split=rules.split_cohort.output.split,
        rejected=COHORT["rejected"],
        duplicates=COHORT["duplicates"],
        scans=of_study("scan_tables"),
        notes=of_study("cohort_notes"),
    output:
        cohort=report_table("cohort"),
    log:
        f"{RESULTS}/{{study}}/logs/tabulate_cohort.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/tabulate_cohort.tsv"
    conda:
        "../../envs/scangan.yaml"
    params:
        compared=of_study("compared_copies"),
        study=facts(),
    script:
        "../scripts/tabulate_cohort.py"


rule tabulate_classification:
    input:
        scores=rules.score.output.scores,
        comparisons=rules.compare_arms.output.comparisons,
        histories=of_study("predictions", file="history.csv"),
        split=rules.split_cohort.output.split,
        rejected=cohort_of("rejected"),
    output:
        classification=report_table("classification"),
        calibration=report_table("calibration"),
    log:
        f"{RESULTS}/{{study}}/logs/tabulate_classification.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/tabulate_classification.tsv"
    conda:
        "../../envs/scangan.yaml"
    params:
        folds=of_study("fold_count"),
        gan_seeds=of_study("gan_seeds_of_arms"),
        patience=setting("classifier/patience"),
        study=facts("pretrained"),
    script:
        "../scripts/tabulate_classification.py"


rule tabulate_classes:
    input:
        scores=rules.score.output.scores,
        predictions=of_study("predictions"),
    output:
        classes=report_table("classes"),
        confusion=report_table("confusion"),
    log:
        f"{RESULTS}/{{study}}/logs/tabulate_classes.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/tabulate_classes.tsv"
    conda:
        "../../envs/scangan.yaml"
    params:
        folds=of_study("fold_count"),
        gan_seeds=of_study("gan_seeds_of_arms"),
        study=facts("pretrained"),
    script:
        "../scripts/tabulate_classes.py"


rule reach_verdict:
    input:
        comparisons=rules.compare_arms.output.comparisons,
        histories=of_study("predictions", file="history.csv"),
    output:
        json=f"{RESULTS}/{{study}}/verdict.json",
        markdown=report(f"{RESULTS}/{{study}}/verdict.md", caption="../report/verdict.rst", category="{study}"),
    log:
        f"{RESULTS}/{{study}}/logs/reach_verdict.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/reach_verdict.tsv"
    conda:
        "../../envs/scangan.yaml"
    params:
        folds=of_study("fold_count"),
        gan_seeds=of_study("gan_seeds_of_arms"),
        own_gan=of_study("own_gan"),
        patience=setting("classifier/patience"),
        settings=settings_of("evaluation", "margin", "primary"),
        study=facts(),
    script:
        "../scripts/reach_verdict.py"


rule tabulate_fidelity:
    input:
        fidelity=of_study("fidelities"),
    output:
        fidelity=report_table("fidelity"),
    log:
        f"{RESULTS}/{{study}}/logs/tabulate_fidelity.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/tabulate_fidelity.tsv"
    wildcard_constraints:
        study=only(PLAN.images),
    conda:
        "../../envs/scangan.yaml"
    params:
        settings=settings_of("fidelity", "copy_quantile"),
        study=facts("extractor"),
    script:
        "../scripts/tabulate_fidelity.py"


rule tabulate_networks:
    input:
        fidelity=rules.tabulate_fidelity.output.fidelity[0],
        descriptions=of_study("descriptions"),
    output:
        networks=report_table("networks"),
    log:
        f"{RESULTS}/{{study}}/logs/tabulate_networks.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/tabulate_networks.tsv"
    conda:
        "../../envs/scangan.yaml"
    params:
        gans=setting("gan"),
    script:
        "../scripts/tabulate_networks.py"


rule plot_classification:
    input:
        predictions=of_study("predictions"),
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
        folds=of_study("fold_count"),
        gan_seeds=of_study("gan_seeds_of_arms"),
        study=facts("positive"),
    script:
        "../scripts/plot_classification.py"


rule tabulate_judge:
    input:
        unpack(of_study("judgements")),
    output:
        judge=report_table("judge"),
        figure=report_figure("judge"),
    log:
        f"{RESULTS}/{{study}}/logs/tabulate_judge.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/tabulate_judge.tsv"
    conda:
        "../../envs/scangan.yaml"
    params:
        settings=setting("judge"),
        evaluation=settings_of("evaluation", "bootstrap", "seed"),
        seeds=of_study("judge_count"),
        study=of_study("judge_facts"),
    script:
        "../scripts/tabulate_judge.py"


rule tabulate_slices:
    input:
        dropped=rules.ingest_images.output.dropped,
        manifest=COHORT["manifest"],
    output:
        slices=report_table("slices"),
    log:
        f"{RESULTS}/{{study}}/logs/tabulate_slices.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/tabulate_slices.tsv"
    conda:
        "../../envs/scangan.yaml"
    params:
        study=facts(),
    script:
        "../scripts/tabulate_slices.py"


rule tabulate_screening:
    input:
        unpack(of_study("first_shards")),
        verdicts=of_study("verdicts"),
    output:
        screening=report_table("screening"),
        figure=report_figure("screening", caption="discarded"),
    log:
        f"{RESULTS}/{{study}}/logs/tabulate_screening.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/tabulate_screening.tsv"
    conda:
        "../../envs/scangan.yaml"
    params:
        gans=of_study("gans_of_arms"),
        study=facts("extractor"),
    script:
        "../scripts/tabulate_screening.py"


rule tabulate_shares:
    input:
        scores=rules.score_shares.output.scores,
        split=of_study("labelled_split"),
    output:
        shares=report_table("shares"),
        figure=report_figure("shares"),
    log:
        f"{RESULTS}/{{study}}/logs/tabulate_shares.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/tabulate_shares.tsv"
    conda:
        "../../envs/scangan.yaml"
    params:
        study=facts("pretrained"),
    script:
        "../scripts/tabulate_shares.py"


rule tabulate_curve:
    input:
        scores=rules.score_curve.output.scores,
    output:
        curve=report_table("curve"),
        figure=report_figure("curve"),
    log:
        f"{RESULTS}/{{study}}/logs/tabulate_curve.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/tabulate_curve.tsv"
    conda:
        "../../envs/scangan.yaml"
    params:
        study=facts("pretrained"),
    script:
        "../scripts/tabulate_curve.py"


rule plot_embedding:
    input:
        points=rules.embed_images.output.points,
        separation=rules.embed_images.output.separation,
    output:
        separation=report_table("separation"),
        figure=report_figure("embedding"),
    log:
        f"{RESULTS}/{{study}}/logs/plot_embedding.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/plot_embedding.tsv"
    conda:
        "../../envs/scangan.yaml"
    params:
        study=facts(),
        settings=setting("embedding"),
    script:
        "../scripts/plot_embedding.py"


rule plot_gan:
    input:
        unpack(of_study("shards", "gan")),
        images=cohort_of("images"),
        manifest=cohort_of("manifest"),
        split=rules.split_cohort.output.split,
        histories=of_study("histories", "gan"),
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
        study=facts(),
        titles=of_study("titles_of_histories", "gan"),
    script:
        "../scripts/plot_gan.py"


rule plot_panel:
    input:
        unpack(of_study("panel_shards", "panel")),
        images=cohort_of("images"),
        manifest=cohort_of("manifest"),
        split=rules.split_cohort.output.split,
    output:
        panel=report_figure("{panel}", "figures/panels", caption="panel"),
    log:
        f"{RESULTS}/{{study}}/logs/plot_panel/{{panel}}.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/plot_panel/{{panel}}.tsv"
    conda:
        "../../envs/scangan.yaml"
    params:
        gans=of_study("panel_gans", "panel"),
        study=facts(),
    script:
        "../scripts/plot_panel.py"


rule plot_scans:
    input:
        volumes=of_source("volumes"),
        scans=rules.gather_scans.output.scans,
        nodules=rules.gather_scans.output.nodules,
    output:
        scans=report_figure("scans"),
    log:
        f"{RESULTS}/{{study}}/logs/plot_scans.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/plot_scans.tsv"
    conda:
        "../../envs/scangan.yaml"
    params:
        study=facts(),
    script:
        "../scripts/plot_scans.py"


rule describe_nodules:
    input:
        scans=rules.gather_scans.output.scans,
        nodules=rules.gather_scans.output.nodules,
        lidc_counts=rules.survey_lidc.output.counts,
        lidc_nodules=rules.survey_lidc.output.nodules,
    output:
        nodules=report_table("nodules"),
        figure=report_figure("nodules"),
    log:
        f"{RESULTS}/{{study}}/logs/describe_nodules.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/describe_nodules.tsv"
    conda:
        "../../envs/scangan.yaml"
    params:
        study=facts(),
    script:
        "../scripts/describe_nodules.py"


rule tabulate_external:
    input:
        predictions=of_study("predictions"),
        external=of_study("predictions", file="external.parquet"),
        tested=rules.check_external.output.tested,
        left_out=rules.check_external.output.left_out,
        rejected=of_study("external_rejected"),
    output:
        external=report_table("external"),
    log:
        f"{RESULTS}/{{study}}/logs/tabulate_external.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/tabulate_external.tsv"
    conda:
        "../../envs/scangan.yaml"
    params:
        settings=settings_of("evaluation", "primary"),
        positive=setting("classifier/positive"),
        gan_seeds=of_study("gan_seeds_of_arms"),
        study=facts("pretrained"),
    script:
        "../scripts/tabulate_external.py"


rule tabulate_subgroups:
    input:
        predictions=of_study("predictions"),
        subgroups=rules.read_subgroups.output.subgroups,
    output:
        subgroups=report_table("subgroups"),
    log:
        f"{RESULTS}/{{study}}/logs/tabulate_subgroups.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/tabulate_subgroups.tsv"
    conda:
        "../../envs/scangan.yaml"
    params:
        folds=of_study("fold_count"),
        settings=settings_of("evaluation", "primary"),
        column=of_study("subgroups_column"),
        positive=setting("classifier/positive"),
        gan_seeds=of_study("gan_seeds_of_arms"),
        study=facts("pretrained"),
    script:
        "../scripts/tabulate_subgroups.py"


rule compare_with_papers:
    input:
        tables=PLAN.compared_tables(),
    output:
        csv=f"{RESULTS}/paper_comparison.csv",
        markdown=report(f"{RESULTS}/paper_comparison.md", caption="../report/paper_comparison.rst", category="Papers"),
    log:
        f"{RESULTS}/logs/compare_with_papers.log",
    benchmark:
        f"{RESULTS}/benchmarks/compare_with_papers.tsv"
    conda:
        "../../envs/scangan.yaml"
    script:
        "../scripts/compare_with_papers.py"


# All studies on one page, which a run ends in.
rule write_page:
    input:
        [study.targets() for study in PLAN.configured],
        papers=rules.compare_with_papers.output.csv,
    output:
        page=f"{RESULTS}/index.html",
        run=f"{RESULTS}/run.json",
        crate=f"{RESULTS}/ro-crate-metadata.json",
        workflow=f"{RESULTS}/workflow/Snakefile",
    log:
        f"{RESULTS}/logs/write_page.log",
    benchmark:
        f"{RESULTS}/benchmarks/write_page.tsv"
    conda:
        "../../envs/scangan.yaml"
    params:
        studies=page_settings(PLAN.configured),
    script:
        "../scripts/write_page.py"


# The same of one study, which ends in it when it is asked for by its name.
rule write_study_page:
    input:
        of_study("targets"),
    output:
        page=f"{RESULTS}/{{study}}/index.html",
        run=f"{RESULTS}/{{study}}/run.json",
        crate=f"{RESULTS}/{{study}}/ro-crate-metadata.json",
        workflow=f"{RESULTS}/{{study}}/workflow/Snakefile",
    log:
        f"{RESULTS}/{{study}}/logs/write_study_page.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/write_study_page.tsv"
    wildcard_constraints:
        study=only(study.name for study in PLAN.configured),
    conda:
        "../../envs/scangan.yaml"
    params:
        studies=lambda wildcards: page_settings([PLAN.studies[wildcards.study]]),
    script:
        "../scripts/write_page.py"
