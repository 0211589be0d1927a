# What the live servers would do under the configured load, without any: asked for by name, `forecast`.


rule forecast_replays:
    input:
        traces=live_traces(f"<results>/live/traces/{{trace}}_{LIVE.vocabulary}.npz"),
        times=BATCH_TIMES,
        model=model_files(LIVE.model),
    output:
        rows=directory("<results>/live/forecast/{variant}_states={states}"),
    log:
        "<logs>/live/forecast_{variant}_states={states}.log",
    group:
        "forecast"
    conda:
        "../envs/core.yaml"
    resources:
        mem_mb=2000,
        runtime=5,
    params:
        serving=SERVING,
        server=simulated_words,
        how=shlex.join(LIVE.replay_words(repeats=1)),
        code=code_digest(*FORECAST_CODE),
    message:
        "Replaying the traces in virtual time on {wildcards.variant} with {wildcards.states} states."
    shell:
        "{params.serving} replay --virtual {params.server} --trace {input.traces:q} {params.how} "
        "--output {output.rows:q} > {log:q} 2>&1"


rule forecast:
    input:
        replays=[f"<results>/live/forecast/{pools.name}" for pools in LIVE.pools],
    output:
        svg=report(
            "<results>/figures/forecast.svg",
            caption="../report/forecast.rst",
            category="Live",
            labels={"figure": "forecast", "shows": "hit rate and TTFT, simulated"},
        ),
        pdf="<results>/figures/forecast.pdf",
        csv="<results>/figures/forecast.csv",
        requests="<results>/live/forecast.parquet",
    log:
        "<logs>/live/forecast.log",
    group:
        "forecast"
    conda:
        "../envs/core.yaml"
    resources:
        mem_mb=1000,
        runtime=2,
    params:
        folders=lambda wildcards, input: list(input.replays),
        roles=[asdict(role) for role in STUDY.roles(STUDY.datasets)],
        code=code_digest(*FIGURE_CODE, "replay"),
    message:
        "Drawing the forecast."
    script:
        "../scripts/live_replays.py"
