# Figures, tables and the page of live servers.

REPLAYS = measured(
    "replay",
    [f"<results>/live/replay/{pools.name}.done" for pools in LIVE.pools],
)
REPLAY_FOLDER = f"{STUDY.results_dir}/live/replay"
# Others may be there, of another configuration.
FOLDERS = (
    replay_folders()
    if ORIGIN == "recorded"
    else [f"{REPLAY_FOLDER}/{pools.name}" for pools in LIVE.pools]
)
TTFT = measured(
    "ttft",
    [
        f"<results>/live/ttft/{variant}.{suffix}"
        for variant in ("no_cache", "no_buffer", "extra_buffer")
        if variant in LIVE.variants
        for suffix in ("csv", "json")
    ],
)
CHECKLISTS = (
    recorded_checklists()
    if ORIGIN == "recorded"
    else [f"<results>/live/smoke/{variant}.smoke.json" for variant in LIVE.variants]
)


rule predict:
    input:
        replays=REPLAYS,
        traces=live_traces(f"<results>/live/traces/{{trace}}_{LIVE.vocabulary}.npz"),
        times=BATCH_TIMES,
        model=model_files(LIVE.model),
    output:
        table=f"{REPLAY_FOLDER}/predicted.csv",
    log:
        "<logs>/live/predict.log",
    group:
        LIVE_FIGURES
    conda:
        "../envs/core.yaml"
    resources:
        mem_mb=2000,
        runtime=15,
    params:
        python=sys.executable,
        folders=FOLDERS,
        code=code_digest("report/predicted", *FORECAST_CODE),
    message:
        "Predicting the replays with the server simulator."
    shell:
        "{params.python:q} -m marconi_core.report.predicted {params.folders:q} "
        "--traces {input.traces:q} --output {output.table:q} > {log:q} 2>&1"


rule live_replays:
    input:
        replays=REPLAYS,
        predicted=(
            recorded_predictions() if ORIGIN == "recorded" else rules.predict.output
        ),
    output:
        svg=report(
            "<results>/figures/live_replays.svg",
            caption="../report/live_replays.rst",
            category="Live",
            labels={"figure": "replays", "shows": "hit rate and TTFT"},
        ),
        pdf="<results>/figures/live_replays.pdf",
        csv="<results>/figures/live_replays.csv",
        requests="<results>/live/requests.parquet",
    log:
        "<logs>/live/replays.log",
    group:
        LIVE_FIGURES
    conda:
        "../envs/core.yaml"
    resources:
        mem_mb=1000,
        runtime=2,
    params:
        origin=ORIGINS[ORIGIN],
        folders=FOLDERS,
        roles=[asdict(role) for role in STUDY.roles(STUDY.datasets)],
        code=code_digest(*FIGURE_CODE, "replay"),
    message:
        "Drawing the replays."
    script:
        "../scripts/live_replays.py"


rule live_ttft:
    input:
        recordings=TTFT,
    output:
        svg=report(
            "<results>/figures/live_ttft.svg",
            caption="../report/live_ttft.rst",
            category="Live",
            labels={"figure": "TTFT", "shows": "TTFT against prompt length"},
        ),
        pdf="<results>/figures/live_ttft.pdf",
        csv="<results>/figures/live_ttft.csv",
    log:
        "<logs>/live/ttft.log",
    group:
        LIVE_FIGURES
    conda:
        "../envs/core.yaml"
    resources:
        mem_mb=1000,
        runtime=2,
    params:
        origin=ORIGINS[ORIGIN],
        code=code_digest(*FIGURE_CODE, "replay"),
    message:
        "Drawing the time to first token against prompt length."
    script:
        "../scripts/live_ttft.py"


rule live_page:
    input:
        replays=rules.live_replays.output.csv,
        requests=rules.live_replays.output.requests,
        ttft=rules.live_ttft.output.csv,
        parity=parity_runs,
        checklists=CHECKLISTS,
    output:
        markdown="<results>/tables/live.md",
        html=report(
            "<results>/tables/live.html",
            caption="../report/live.rst",
            category="Live",
        ),
    log:
        "<logs>/live/page.log",
    group:
        LIVE_FIGURES
    conda:
        "../envs/core.yaml"
    resources:
        mem_mb=1000,
        runtime=2,
    params:
        origin=ORIGINS[ORIGIN],
        folders=FOLDERS,
        code=code_digest(*FIGURE_CODE, "replay"),
    message:
        "Writing the page about live servers."
    script:
        "../scripts/live_page.py"


rule smoke_live:
    input:
        checklists=CHECKLISTS,
    output:
        table="<results>/tables/smoke_live.md",
    log:
        "<logs>/live/smoke.log",
    group:
        LIVE_FIGURES
    conda:
        "../envs/core.yaml"
    resources:
        mem_mb=1000,
        runtime=2,
    params:
        origin=ORIGINS[ORIGIN],
        code=code_digest(*FIGURE_CODE, "replay"),
    message:
        "Gathering the checklists."
    script:
        "../scripts/smoke_live.py"


rule live:
    input:
        rules.live_page.output,
        rules.live_replays.output,
        rules.live_ttft.output,
        rules.smoke_live.output,
