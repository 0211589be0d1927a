# One job a trace: a simulation takes milliseconds, a job a second.


rule simulate:
    input:
        compiled=compiled,
        model=model_files(STUDY.model),
    output:
        runs="<results>/sim/{trace}/runs.parquet",
        requests="<results>/sim/{trace}/requests.parquet",
        tuning="<results>/sim/{trace}/tuning.parquet",
    log:
        "<logs>/simulate/{trace}.log",
    benchmark:
        "<benchmarks>/simulate/{trace}.tsv"
    group:
        "simulations"
    conda:
        "../envs/core.yaml"
    resources:
        mem_mb=2500,
        runtime=3,
    params:
        grid=lambda wildcards: grid(STUDY, wildcards.trace),
        code=code_digest(*CODE, "sim/sweep", "traces/arrivals", "rules/study"),
    message:
        "Simulating all policies and capacities on {wildcards.trace}."
    script:
        "../scripts/simulate.py"


rule sim:
    input:
        of_all_traces("<results>/sim/{trace}/runs.parquet"),
