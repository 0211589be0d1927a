# SGLang's cache with two pools, simulated under every policy: asked for by name, `server_sim`.


rule simulate_server:
    input:
        compiled=compiled,
        model=model_files(STUDY.server.model),
    output:
        runs="<results>/server_sim/{trace}.parquet",
    log:
        "<logs>/simulate_server/{trace}.log",
    benchmark:
        "<benchmarks>/simulate_server/{trace}.tsv"
    conda:
        "../envs/core.yaml"
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        study=STUDY.server.model_dump_json(),
        code=code_digest(*SERVER_CODE, "traces/arrivals", "rules/study"),
    message:
        "Simulating a server under all policies and pools on {wildcards.trace}."
    script:
        "../scripts/simulate_server.py"


rule server_sim:
    input:
        runs=of_server_traces("<results>/server_sim/{trace}.parquet"),
    output:
        svg=report(
            "<results>/figures/server_pools.svg",
            caption="../report/server_pools.rst",
            category="Server",
            labels={"figure": "server", "shows": "token hit rate, simulated"},
        ),
        pdf="<results>/figures/server_pools.pdf",
        csv="<results>/figures/server_pools.csv",
    log:
        "<logs>/server_sim.log",
    group:
        "figures"
    conda:
        "../envs/core.yaml"
    resources:
        mem_mb=1000,
        runtime=2,
    params:
        roles=roles,
        code=code_digest(*FIGURE_CODE),
    message:
        "Drawing the simulated server."
    script:
        "../scripts/server_sim.py"
