# The paper's figures of single traces, and studies: a job per data set simulates, one per figure draws.


wildcard_constraints:
    experiment="|".join(EXPERIMENTS),


rule experiment:
    input:
        compiled=experiment_files,
        models=lambda wildcards: models_of(wildcards.experiment),
    output:
        rows="<results>/experiments/{experiment}/{dataset}.parquet",
    log:
        "<logs>/experiments/{experiment}/{dataset}.log",
    benchmark:
        "<benchmarks>/experiments/{experiment}/{dataset}.tsv"
    group:
        "simulations"
    conda:
        "../envs/core.yaml"
    resources:
        mem_mb=2500,
        runtime=10,
    params:
        settings=lambda wildcards: settings(STUDY, wildcards.dataset),
        code=code_digest(
            *CODE, "experiments", "sim/bound", "traces/arrivals", "rules/experiments"
        ),
    message:
        "Running the experiment {wildcards.experiment} on {wildcards.dataset}."
    script:
        "../scripts/experiment.py"


rule fig3a:
    input:
        rows=rows_of("fig3a"),
    output:
        svg=report(
            "<results>/figures/fig3a.svg",
            caption="../report/fig3a.rst",
            category="Figures",
            labels={"figure": "3a", "shows": "blocks reused"},
        ),
        pdf="<results>/figures/fig3a.pdf",
        csv="<results>/figures/fig3a.csv",
    log:
        "<logs>/fig3a.log",
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
        "Drawing Figure 3a."
    script:
        "../scripts/figure.py"


use rule fig3a as fig6 with:
    input:
        rows=rows_of("fig6"),
    output:
        svg=report(
            "<results>/figures/fig6.svg",
            caption="../report/fig6.rst",
            category="Figures",
            labels={"figure": "6", "shows": "lengths"},
        ),
        pdf="<results>/figures/fig6.pdf",
        csv="<results>/figures/fig6.csv",
    log:
        "<logs>/fig6.log",
    message:
        "Drawing Figure 6."


use rule fig3a as fig10 with:
    input:
        rows=rows_of("fig10"),
        recordings=recorded_inputs("ttft"),
    output:
        svg=report(
            "<results>/figures/fig10.svg",
            caption="../report/fig10.rst",
            category="Figures",
            labels={"figure": "10", "shows": "one contended trace"},
        ),
        pdf="<results>/figures/fig10.pdf",
        csv="<results>/figures/fig10.csv",
    log:
        "<logs>/fig10.log",
    message:
        "Drawing Figure 10."


use rule fig3a as fig11 with:
    input:
        rows=rows_of("fig11"),
    output:
        svg=report(
            "<results>/figures/fig11.svg",
            caption="../report/fig11.rst",
            category="Figures",
            labels={"figure": "11", "shows": "cache size"},
        ),
        pdf="<results>/figures/fig11.pdf",
        csv="<results>/figures/fig11.csv",
    log:
        "<logs>/fig11.log",
    message:
        "Drawing Figure 11."


use rule fig3a as fig12a with:
    input:
        rows=rows_of("fig12a"),
    output:
        svg=report(
            "<results>/figures/fig12a.svg",
            caption="../report/fig12a.rst",
            category="Figures",
            labels={"figure": "12a", "shows": "layer composition"},
        ),
        pdf="<results>/figures/fig12a.pdf",
        csv="<results>/figures/fig12a.csv",
    log:
        "<logs>/fig12a.log",
    message:
        "Drawing Figure 12a."


use rule fig3a as fig12b with:
    input:
        rows=rows_of("fig12b"),
    output:
        svg=report(
            "<results>/figures/fig12b.svg",
            caption="../report/fig12b.rst",
            category="Figures",
            labels={"figure": "12b", "shows": "state dimension"},
        ),
        pdf="<results>/figures/fig12b.pdf",
        csv="<results>/figures/fig12b.csv",
    log:
        "<logs>/fig12b.log",
    message:
        "Drawing Figure 12b."


use rule fig3a as fig13a with:
    input:
        rows=rows_of("fig13a"),
    output:
        svg=report(
            "<results>/figures/fig13a.svg",
            caption="../report/fig13a.rst",
            category="Figures",
            labels={"figure": "13a", "shows": "arrival rate"},
        ),
        pdf="<results>/figures/fig13a.pdf",
        csv="<results>/figures/fig13a.csv",
    log:
        "<logs>/fig13a.log",
    message:
        "Drawing Figure 13a."


use rule fig3a as fig13b with:
    input:
        rows=rows_of("fig13b"),
    output:
        svg=report(
            "<results>/figures/fig13b.svg",
            caption="../report/fig13b.rst",
            category="Figures",
            labels={"figure": "13b", "shows": "response time"},
        ),
        pdf="<results>/figures/fig13b.pdf",
        csv="<results>/figures/fig13b.csv",
    log:
        "<logs>/fig13b.log",
    message:
        "Drawing Figure 13b."


use rule fig3a as ablation with:
    input:
        rows=rows_of("ablation"),
    output:
        svg=report(
            "<results>/figures/ablation.svg",
            caption="../report/ablation.rst",
            category="Beyond the paper",
            labels={"figure": "ablation", "shows": "what each quirk is worth"},
        ),
        pdf="<results>/figures/ablation.pdf",
        csv="<results>/figures/ablation.csv",
    log:
        "<logs>/ablation.log",
    message:
        "Drawing what each quirk of the paper's simulator is worth."


use rule fig3a as regret with:
    input:
        rows=rows_of("regret"),
    output:
        svg=report(
            "<results>/figures/regret.svg",
            caption="../report/regret.rst",
            category="Beyond the paper",
            labels={"figure": "regret", "shows": "every policy and the best possible"},
        ),
        pdf="<results>/figures/regret.pdf",
        csv="<results>/figures/regret.csv",
    log:
        "<logs>/regret.log",
    message:
        "Drawing every policy beside the best possible."


use rule fig3a as geometry with:
    input:
        rows=rows_of("geometry"),
    output:
        svg=report(
            "<results>/figures/geometry.svg",
            caption="../report/geometry.rst",
            category="Beyond the paper",
            labels={"figure": "geometry", "shows": "other hybrid models"},
        ),
        pdf="<results>/figures/geometry.pdf",
        csv="<results>/figures/geometry.csv",
    log:
        "<logs>/geometry.log",
    message:
        "Drawing hit rates of other hybrid models."
