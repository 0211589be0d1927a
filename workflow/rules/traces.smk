# Conversations -> compiled token trees; and traces as files for others.


rule compile_dataset:
    input:
        files=lambda wildcards: [
            data_file(name) for name in dataset_of(wildcards).files_needed
        ],
        own=lambda wildcards: dataset_of(wildcards).own_files,
        tokenizer=lambda wildcards: tokenizer_of(dataset_of(wildcards)),
        vocabulary=lambda wildcards: vocabulary_file(dataset_of(wildcards).vocabulary),
    output:
        workload="<results>/traces/{dataset}.npz",
    log:
        "<logs>/compile/{dataset}.log",
    benchmark:
        "<benchmarks>/compile/{dataset}.tsv"
    localrule: True
    conda:
        "../envs/core.yaml"
    resources:
        mem_mb=1500,
        runtime=5,
    params:
        source=lambda wildcards: dataset_of(wildcards).source,
        options=lambda wildcards: dataset_of(wildcards).reader_params,
        data_dir=STUDY.data_dir,
        code=code_digest(
            "traces/sources",
            "traces/sessions",
            "traces/tokenizers",
            "traces/retokenize",
            "traces/vocabulary",
            "traces/jsonl",
            "traces/compiled",
            "traces/trace",
            "traces/tree",
        ),
    message:
        "Tokenizing and compiling {wildcards.dataset}."
    script:
        "../scripts/compile.py"


rule read_trace:
    input:
        jsonl=lambda wildcards: (
            f"{STUDY.datasets[STUDY.trace(wildcards.trace).dataset].trace_dir}/{wildcards.trace}.jsonl"
        ),
    output:
        trace="<results>/traces/{trace}.npz",
    log:
        "<logs>/read_trace/{trace}.log",
    benchmark:
        "<benchmarks>/read_trace/{trace}.tsv"
    group:
        "simulations"
    conda:
        "../envs/core.yaml"
    resources:
        mem_mb=2000,
        runtime=5,
    params:
        code=code_digest(
            "traces/jsonl", "traces/compiled", "traces/trace", "traces/tree"
        ),
    message:
        "Compiling the ready trace {wildcards.trace}."
    script:
        "../scripts/read_trace.py"


rule write_trace:
    input:
        compiled=compiled,
    output:
        jsonl="<results>/traces/{trace}.jsonl",
    log:
        "<logs>/write_trace/{trace}.log",
    group:
        "traces"
    conda:
        "../envs/core.yaml"
    resources:
        mem_mb=1000,
        runtime=5,
    params:
        code=code_digest(
            "traces/jsonl", "traces/arrivals", "traces/trace", "traces/tree"
        ),
    message:
        "Writing {wildcards.trace} in the paper's format."
    script:
        "../scripts/write_trace.py"


rule describe_trace:
    input:
        compiled=compiled,
    output:
        table="<results>/tables/trace_{trace}.txt",
        figure=report(
            "<results>/figures/trace_{trace}.svg",
            caption="../report/trace.rst",
            category="Traces",
            labels={"trace": "{trace}"},
        ),
    log:
        "<logs>/describe/{trace}.log",
    group:
        "figures"
    conda:
        "../envs/core.yaml"
    resources:
        mem_mb=1000,
        runtime=2,
    params:
        title=lambda wildcards: title(STUDY, wildcards.trace),
        code=code_digest(
            *FIGURE_CODE,
            "traces/describe",
            "traces/arrivals",
            "traces/trace",
            "traces/tree",
        ),
    message:
        "Describing {wildcards.trace}."
    script:
        "../scripts/describe.py"


rule compile:
    input:
        lambda wildcards: {
            compiled(SimpleNamespace(trace=spec.name)): None
            for spec in STUDY.traces(used(wildcards))
        }.keys(),


rule traces:
    input:
        of_all_traces("<results>/traces/{trace}.jsonl"),


# Arrival rates reorder a data set's requests, so one trace of each says what there is to know.
rule describe:
    input:
        lambda wildcards: [
            f"<results>/figures/trace_{STUDY.traces([name])[0].name}.svg"
            for name in used(wildcards)
        ],
