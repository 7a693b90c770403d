# Whole volumes of studies with cohorts: cubes of the scans, networks that make more of them, and detectors of nodules.
VOLUME_GENERATOR = {
    "weights": f"{RESULTS}/{{study}}/gan/{{gan}}/seed{{gan_seed}}/generator.safetensors",
    "description": f"{RESULTS}/{{study}}/gan/{{gan}}/seed{{gan_seed}}/generator.json",
}
SHARD = {
    "volumes": f"{RESULTS}/{{study}}/synthetic/{{gan}}/seed{{gan_seed}}/shard{{shard}}.zarr.zip",
    "manifest": f"{RESULTS}/{{study}}/synthetic/{{gan}}/seed{{gan_seed}}/shard{{shard}}.parquet",
    "described": f"{RESULTS}/{{study}}/synthetic/{{gan}}/seed{{gan_seed}}/shard{{shard}}_described.parquet",
    # Of the volumes that detectors learn from: half of them have nodules.
    "edited_manifest": f"{RESULTS}/{{study}}/synthetic/{{gan}}/seed{{gan_seed}}/nodules/shard{{shard}}.parquet",
    "nodules": f"{RESULTS}/{{study}}/synthetic/{{gan}}/seed{{gan_seed}}/nodules/shard{{shard}}_nodules.parquet",
    "rejected": f"{RESULTS}/{{study}}/synthetic/{{gan}}/seed{{gan_seed}}/nodules/shard{{shard}}_rejected.parquet",
}


rule frame_scans:
    input:
        volumes=f"{RESULTS}/{{study}}/cohorts/{{cohort}}/scans/batch{{batch}}.zarr.zip",
        scans=f"{RESULTS}/{{study}}/cohorts/{{cohort}}/scans/batch{{batch}}_scans.parquet",
        nodules=f"{RESULTS}/{{study}}/cohorts/{{cohort}}/scans/batch{{batch}}_nodules.parquet",
        cohort=f"{RESULTS}/{{study}}/cohorts/{{cohort}}/scans/scans.csv",
    output:
        volumes=f"{RESULTS}/{{study}}/volumes/framed/{{cohort}}/batch{{batch}}.zarr.zip",
        scans=f"{RESULTS}/{{study}}/volumes/framed/{{cohort}}/batch{{batch}}_scans.parquet",
        nodules=f"{RESULTS}/{{study}}/volumes/framed/{{cohort}}/batch{{batch}}_nodules.parquet",
        rejected=f"{RESULTS}/{{study}}/volumes/framed/{{cohort}}/batch{{batch}}_rejected.parquet",
    log:
        f"{RESULTS}/{{study}}/logs/frame_scans/{{cohort}}/batch{{batch}}.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/frame_scans/{{cohort}}/batch{{batch}}.tsv"
    conda:
        "../../envs/scangan.yaml"
    params:
        grid=settings_of("grid", "size", "spacing_mm"),
    script:
        "../scripts/frame_scans.py"


rule free_scans:
    input:
        **nodule_network("eraser"),
        **BATCH_ON_GRID,
        mixed=rules.edit_scans.output.volumes,
        cohort=rules.edit_scans.input.cohort,
        mixed_nodules=rules.edit_scans.output.nodules,
    output:
        **{
            f"{version}_{kind}": f"{RESULTS}/{{study}}/volumes/{version}/{{cohort}}/batch{{batch}}.{ending}"
            for version in ("free", "mixed")
            for kind, ending in (("volumes", "zarr.zip"), ("manifest", "parquet"))
        },
        rejected=f"{RESULTS}/{{study}}/volumes/free/{{cohort}}/batch{{batch}}_rejected.parquet",
    log:
        f"{RESULTS}/{{study}}/logs/free_scans/{{cohort}}/batch{{batch}}.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/free_scans/{{cohort}}/batch{{batch}}.tsv"
    conda:
        "../../envs/scangan.yaml"
    threads: network_threads
    params:
        size=lookup(dpath="studies/{study}/grid/size", within=config),
        settings=settings_of("nodules", "mix_seed", "voi"),
    script:
        "../scripts/free_scans.py"


rule inject_sized:
    input:
        unpack(of_study("framed", version="free")),
        **nodule_network("injector"),
        **nodule_network("eraser"),
        **ANNOTATED,
        split=rules.split_cohort.output.split,
    output:
        volumes=f"{RESULTS}/{{study}}/volumes/sized.zarr.zip",
        manifest=f"{RESULTS}/{{study}}/volumes/sized.parquet",
        nodules=f"{RESULTS}/{{study}}/volumes/sized_nodules.csv",
        rejected=f"{RESULTS}/{{study}}/volumes/sized_rejected.csv",
    log:
        f"{RESULTS}/{{study}}/logs/inject_sized.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/inject_sized.tsv"
    conda:
        "../../envs/scangan.yaml"
    threads: network_threads
    params:
        settings=settings_of("nodules", "mix_seed", "placement", "sham", "test_diameters_mm", "voi"),
    script:
        "../scripts/inject_sized.py"


rule train_volume_gan:
    input:
        unpack(of_study("framed", version="free")),
        split=rules.split_cohort.output.split,
    output:
        **VOLUME_GENERATOR,
        history=f"{RESULTS}/{{study}}/gan/{{gan}}/seed{{gan_seed}}/history.csv",
        samples=f"{RESULTS}/{{study}}/gan/{{gan}}/seed{{gan_seed}}/samples.png",
    log:
        f"{RESULTS}/{{study}}/logs/train_volume_gan/{{gan}}/seed{{gan_seed}}.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/train_volume_gan/{{gan}}/seed{{gan_seed}}.tsv"
    wildcard_constraints:
        study=only(PLAN.volumes),
    conda:
        "../../envs/scangan.yaml"
    threads: network_threads
    resources:
        gpu=1,
    params:
        settings=of_study("gan_settings", "gan", "gan_seed"),
        window=lookup(dpath="studies/{study}/grid/window", within=config),
    script:
        "../scripts/train_volume_gan.py"


rule synthesize_volumes:
    input:
        unpack(of_study("injection", "gan")),
        **VOLUME_GENERATOR,
    output:
        **SHARD,
    log:
        f"{RESULTS}/{{study}}/logs/synthesize_volumes/{{gan}}/seed{{gan_seed}}/shard{{shard}}.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/synthesize_volumes/{{gan}}/seed{{gan_seed}}/shard{{shard}}.tsv"
    wildcard_constraints:
        study=only(PLAN.volumes),
    conda:
        "../../envs/scangan.yaml"
    threads: synthesis_threads
    resources:
        gpu=1,
    params:
        injection=of_study("injection_settings", "gan"),
        settings=of_study("shard_settings", "gan", "gan_seed", "shard"),
    script:
        "../scripts/synthesize_volumes.py"


rule measure_volumes:
    input:
        unpack(of_study("measured_volumes", "source")),
        weights=of_study("feature_weights"),
    output:
        slices=f"{RESULTS}/{{study}}/fidelity/{{source}}_slices.safetensors",
        descriptions=f"{RESULTS}/{{study}}/fidelity/{{source}}_volumes.parquet",
    log:
        f"{RESULTS}/{{study}}/logs/measure_volumes/{{source}}.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/measure_volumes/{{source}}.tsv"
    conda:
        "../../envs/scangan.yaml"
    threads: volume_threads
    resources:
        gpu=1,
    params:
        settings=settings_of("fidelity", "extractor", "positions"),
        window=lookup(dpath="studies/{study}/grid/window", within=config),
    script:
        "../scripts/measure_volumes.py"


rule tabulate_volumes:
    input:
        unpack(of_study("measured_sources")),
        split=rules.split_cohort.output.split,
        rejected=of_study("rejected_volumes"),
    output:
        fidelity=report_table("fidelity"),
        consistency=report_table("consistency"),
        figure=report_figure("consistency"),
        copies=f"{RESULTS}/{{study}}/fidelity/copies.csv",
        rejected=f"{RESULTS}/{{study}}/volumes/rejected.csv",
    log:
        f"{RESULTS}/{{study}}/logs/tabulate_volumes.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/tabulate_volumes.tsv"
    wildcard_constraints:
        study=only(PLAN.volumes),
    conda:
        "../../envs/scangan.yaml"
    params:
        settings=lookup(dpath="studies/{study}/fidelity", within=config),
        evaluation=settings_of("evaluation", "bootstrap", "seed"),
        gans=of_study("gans"),
        study=facts("extractor"),
    script:
        "../scripts/tabulate_volumes.py"


rule plot_volumes:
    input:
        unpack(of_study("framed", version="free")),
        unpack(of_study("first_shards")),
        split=rules.split_cohort.output.split,
    output:
        planes=report_figure("planes"),
        middle=report_figure("middle"),
        regions=report_figure("regions"),
        scroll=report(
            f"{RESULTS}/{{study}}/figures/scroll.gif",
            caption="../report/scroll.rst",
            category="{study}",
            subcategory="figures",
        ),
    log:
        f"{RESULTS}/{{study}}/logs/plot_volumes.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/plot_volumes.tsv"
    conda:
        "../../envs/scangan.yaml"
    params:
        gans=of_study("gans"),
        gan=of_study("own_gan"),
        window=lookup(dpath="studies/{study}/grid/window", within=config),
        study=facts(),
    script:
        "../scripts/plot_volumes.py"


rule train_detector:
    input:
        unpack(of_study("arm_inputs", "arm", "training")),
        split=rules.split_cohort.output.split,
    output:
        weights=of_classifier(f"{RESULTS}/{{study}}/classifier/{{arm}}/{{training}}/classifier.safetensors"),
        history=f"{RESULTS}/{{study}}/classifier/{{arm}}/{{training}}/history.csv",
        predictions=f"{RESULTS}/{{study}}/classifier/{{arm}}/{{training}}/predictions.parquet",
    log:
        f"{RESULTS}/{{study}}/logs/train_detector/{{arm}}/{{training}}.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/train_detector/{{arm}}/{{training}}.tsv"
    wildcard_constraints:
        study=only(PLAN.volumes),
    conda:
        "../../envs/scangan.yaml"
    threads: network_threads
    resources:
        gpu=1,
    params:
        settings=of_study("classifier_settings", "arm"),
        window=lookup(dpath="studies/{study}/grid/window", within=config),
    script:
        "../scripts/train_detector.py"


rule tabulate_detection:
    input:
        predictions=of_study("predictions"),
        rejected=rules.inject_sized.output.rejected,
        labels=rules.tabulate_mix.output.labels,
    output:
        detection=report_table("detection"),
        figure=report_figure("detection"),
    log:
        f"{RESULTS}/{{study}}/logs/tabulate_detection.log",
    benchmark:
        f"{RESULTS}/{{study}}/benchmarks/tabulate_detection.tsv"
    conda:
        "../../envs/scangan.yaml"
    params:
        diameters_mm=lookup(dpath="studies/{study}/nodules/test_diameters_mm", within=config),
        gan_seeds=of_study("gan_seeds_of_arms"),
        study=facts("positive"),
    script:
        "../scripts/tabulate_detection.py"


rule export_volume:
    input:
        unpack(of_study("exported_shard", "gan", "number")),
    output:
        folder=directory(f"{RESULTS}/{{study}}/exported/{{gan}}-{{number}}"),
    log:
        f"{RESULTS}/{{study}}/logs/export_volume/{{gan}}-{{number}}.log",
    wildcard_constraints:
        study=only(PLAN.volumes),
    conda:
        "../../envs/scangan.yaml"
    script:
        "../scripts/export_volume.py"


use rule export_volume as export_volume_as_nifti with:
    output:
        file=f"{RESULTS}/{{study}}/exported/{{gan}}-{{number}}.nii.gz",
    log:
        f"{RESULTS}/{{study}}/logs/export_volume/{{gan}}-{{number}}.nii.gz.log",
