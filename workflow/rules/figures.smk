# Figures and tables from result tables; never from logs.


rule fig7:
    input:
        runs=of_all_traces("<results>/sim/{trace}/runs.parquet"),
    output:
        svg=report(
            "<results>/figures/fig7.svg",
            caption="../report/fig7.rst",
            category="Figures",
            labels={"figure": "7", "shows": "token hit rate"},
        ),
        pdf="<results>/figures/fig7.pdf",
        csv="<results>/figures/fig7.csv",
    log:
        "<logs>/fig7.log",
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
        "Drawing Figure 7."
    script:
        "../scripts/boxes.py"


use rule fig7 as fig8 with:
    output:
        svg=report(
            "<results>/figures/fig8.svg",
            caption="../report/fig8.rst",
            category="Figures",
            labels={"figure": "8", "shows": "gain over SGLang+"},
        ),
        pdf="<results>/figures/fig8.pdf",
        csv="<results>/figures/fig8.csv",
    log:
        "<logs>/fig8.log",
    message:
        "Drawing Figure 8."


rule fig9_panel:
    input:
        requests=lambda wildcards: [
            f"<results>/sim/{spec.name}/requests.parquet"
            for spec in STUDY.traces([wildcards.dataset])
        ],
        recordings=recorded_inputs("ttft"),
    output:
        svg=report(
            "<results>/figures/fig9_{dataset}.svg",
            caption="../report/fig9.rst",
            category="Figures",
            labels={"figure": "9, {dataset}", "shows": "P95 TTFT"},
        ),
        pdf="<results>/figures/fig9_{dataset}.pdf",
        csv="<results>/figures/fig9_{dataset}.csv",
    log:
        "<logs>/fig9_{dataset}.log",
    group:
        "figures"
    conda:
        "../envs/core.yaml"
    resources:
        mem_mb=1000,
        runtime=2,
    params:
        roles=lambda wildcards: [
            asdict(role) for role in STUDY.roles([wildcards.dataset])
        ],
        code=code_digest(*FIGURE_CODE),
    message:
        "Drawing Figure 9 for {wildcards.dataset}."
    script:
        "../scripts/fig9.py"


rule fig9:
    input:
        of_all_datasets("<results>/figures/fig9_{dataset}.svg"),


rule fig9b:
    input:
        [
            f"<results>/figures/fig9_{name}.svg"
            for name, dataset in STUDY.datasets.items()
            if dataset.paper_dataset == "sharegpt" and not dataset.optional
        ],


use rule fig3a as policies with:
    input:
        rows=of_all_traces("<results>/sim/{trace}/runs.parquet"),
    output:
        svg=report(
            "<results>/figures/policies.svg",
            caption="../report/policies.rst",
            category="Beyond the paper",
            labels={"figure": "policies", "shows": "every policy"},
        ),
        pdf="<results>/figures/policies.pdf",
        csv="<results>/figures/policies.csv",
    log:
        "<logs>/policies.log",
    message:
        "Drawing every policy's mean token hit rate."


rule alpha:
    input:
        runs=of_all_traces("<results>/sim/{trace}/runs.parquet"),
        requests=of_all_traces("<results>/sim/{trace}/requests.parquet"),
    output:
        svg=report(
            "<results>/figures/alpha.svg",
            caption="../report/alpha.rst",
            category="Beyond the paper",
            labels={"figure": "alpha", "shows": "tuned and best alpha"},
        ),
        pdf="<results>/figures/alpha.pdf",
        csv="<results>/figures/alpha.csv",
    log:
        "<logs>/alpha.log",
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
        "Drawing the tuned alpha beside the best one."
    script:
        "../scripts/alpha.py"


rule claims:
    input:
        runs=of_all_traces("<results>/sim/{trace}/runs.parquet"),
        requests=of_all_traces("<results>/sim/{trace}/requests.parquet"),
        experiments=rows_behind_claims,
        live=recorded_inputs("replay"),
    output:
        csv="<results>/tables/claims.csv",
        front="<results>/tables/claims_front.html",
        markdown="<results>/tables/claims.md",
        html=report(
            "<results>/tables/claims.html",
            caption="../report/claims.rst",
            category="Claims",
        ),
    log:
        "<logs>/claims.log",
    group:
        "figures"
    conda:
        "../envs/core.yaml"
    resources:
        mem_mb=2000,
        runtime=5,
    params:
        roles=roles,
        left_out=left_out,
        code=code_digest(*FIGURE_CODE, "replay"),
    message:
        "Judging the paper's claims."
    script:
        "../scripts/claims.py"
