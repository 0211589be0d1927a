# Live servers: measured on this machine's GPU, tried on a simulated server, or as recorded.
# Measurements carry no digest of the code: they are not repeated because something was edited.


rule retokenize_trace:
    input:
        compiled=compiled,
        source=[] if LIVE.tokenizer == KEEP else "<data>/llama2-tokenizer.json",
        target=vocabulary_file(LIVE.tokenizer),
    output:
        trace=f"<results>/live/traces/{{trace}}_{LIVE.vocabulary}.npz",
        table=f"<results>/tables/retokenized_{{trace}}_{LIVE.vocabulary}.txt",
    log:
        f"<logs>/retokenize/{{trace}}_{LIVE.vocabulary}.log",
    group:
        "vocabulary"
    conda:
        "../envs/core.yaml"
    resources:
        mem_mb=2000,
        runtime=5,
    params:
        code=code_digest(
            "traces/retokenize",
            "traces/vocabulary",
            "traces/tokenizers",
            "traces/describe",
            "traces/arrivals",
            "traces/compiled",
            "traces/trace",
            "traces/tree",
        ),
    message:
        f"Translating {{wildcards.trace}} into the vocabulary '{LIVE.vocabulary}'."
    script:
        "../scripts/retokenize.py"


rule text_replay_trace:
    input:
        compiled=compiled,
        source="<data>/llama2-tokenizer.json",
        target=vocabulary_file(LIVE.tokenizer),
        retokenized=f"<results>/live/traces/{{trace}}_{LIVE.vocabulary}.npz",
    output:
        table=f"<results>/tables/texts_{{trace}}_{LIVE.vocabulary}.csv",
    log:
        f"<logs>/texts/{{trace}}_{LIVE.vocabulary}.log",
    group:
        "vocabulary"
    conda:
        "../envs/core.yaml"
    resources:
        mem_mb=2000,
        runtime=15,
    params:
        code=code_digest(
            *SERVER_CODE,
            "replay/texts",
            "traces/vocabulary",
            "traces/tokenizers",
            "traces/describe",
            "traces/arrivals",
        ),
    message:
        "Measuring what {wildcards.trace} loses when prompts are sent as texts."
    script:
        "../scripts/texts.py"


rule check_server:
    output:
        json="<results>/live/smoke/{variant}.smoke.json",
    log:
        run="<logs>/live/smoke_{variant}.log",
        server="<logs>/live/smoke_{variant}.server.log",
    conda:
        "../envs/core.yaml"
    threads: SERVER_CPUS
    resources:
        gpu=int(ORIGIN == "sglang"),
        mem_mb=SERVER_MEM_MB,
        runtime=60,
    params:
        serving=SERVING,
        server=server_words,
    message:
        "Starting {wildcards.variant} and going through the checklist."
    shell:
        "{params.serving} smoke {params.server} --output {output.json:q} --log {log.server:q} > {log.run:q} 2>&1"


rule measure_ttft:
    output:
        rows="<results>/live/ttft/{variant}.csv",
        description="<results>/live/ttft/{variant}.json",
    log:
        run="<logs>/live/ttft_{variant}.log",
        server="<logs>/live/ttft_{variant}.server.log",
    conda:
        "../envs/core.yaml"
    threads: SERVER_CPUS
    resources:
        gpu=int(ORIGIN == "sglang"),
        mem_mb=SERVER_MEM_MB,
        runtime=60,
    params:
        serving=SERVING,
        server=server_words,
        plan=QUICK_TTFT if LIVE.quick else "",
        folder=lambda wildcards, output: Path(output.rows).parent,
    message:
        "Measuring the time to first token of {wildcards.variant} against prompt length."
    shell:
        "{params.serving} ttft {params.server} {params.plan} --output {params.folder:q} "
        "--log {log.server:q} > {log.run:q} 2>&1"


rule measure_parity:
    input:
        trace=f"<results>/live/traces/{{trace}}_{LIVE.vocabulary}.npz",
    output:
        rows="<results>/live/parity/{variant}_{trace}.csv",
        description="<results>/live/parity/{variant}_{trace}.json",
    log:
        run="<logs>/live/parity_{variant}_{trace}.log",
        server="<logs>/live/parity_{variant}_{trace}.server.log",
    conda:
        "../envs/core.yaml"
    threads: SERVER_CPUS
    resources:
        gpu=int(ORIGIN == "sglang"),
        mem_mb=SERVER_MEM_MB,
        runtime=120,
    params:
        serving=SERVING,
        server=lambda wildcards: shlex.join(LIVE.server_words(wildcards.variant)),
        requests=60 if LIVE.quick else 1000,
        states=LIVE.states[0],
        kv_tokens=LIVE.kv_tokens or PARITY_KV_TOKENS,
    message:
        "Comparing predicted and served cached tokens of {wildcards.variant} on {wildcards.trace}."
    shell:
        "{params.serving} parity {params.server} --trace {input.trace:q} --requests {params.requests} "
        "--states {params.states} --tokens {params.kv_tokens} --output {output.rows:q} "
        "--log {log.server:q} > {log.run:q} 2>&1"


# The rows are no declared outputs: what a failed replay has left is kept, and what is complete is
# not replayed again.
rule replay:
    input:
        traces=live_traces(f"<results>/live/traces/{{trace}}_{LIVE.vocabulary}.npz"),
    output:
        done=touch("<results>/live/replay/{variant}_states={states}.done"),
    log:
        run="<logs>/live/replay_{variant}_states={states}.log",
        server="<logs>/live/replay_{variant}_states={states}.server.log",
    conda:
        "../envs/core.yaml"
    threads: SERVER_CPUS
    resources:
        gpu=int(ORIGIN == "sglang"),
        mem_mb=SERVER_MEM_MB,
        runtime=360,
    params:
        serving=SERVING,
        server=server_words,
        how=shlex.join(LIVE.replay_words()),
        folder=lambda wildcards, output: Path(output.done).with_suffix(""),
    message:
        "Replaying the traces on {wildcards.variant} with {wildcards.states} states."
    shell:
        "{params.serving} replay {params.server} --trace {input.traces:q} {params.how} "
        "--output {params.folder:q} --log {log.server:q} > {log.run:q} 2>&1"


rule bench_serving_run:
    input:
        tokenizer=vocabulary_file(LIVE.tokenizer),
    output:
        json="<results>/live/bench_serving/{variant}.json",
    log:
        run="<logs>/live/bench_serving_{variant}.log",
        server="<logs>/live/bench_serving_{variant}.server.log",
    conda:
        "../envs/core.yaml"
    threads: SERVER_CPUS
    resources:
        gpu=int(ORIGIN == "sglang"),
        mem_mb=SERVER_MEM_MB,
        runtime=60,
    params:
        serving=SERVING,
        server=lambda wildcards, input: shlex.join(
            LIVE.server_words(
                wildcards.variant, LIVE.states[-1], tokenizer=input.tokenizer
            )
        ),
    message:
        "Running SGLang's own load generator on {wildcards.variant}."
    shell:
        "{params.serving} bench {params.server} --output {output.json:q} "
        "--log {log.server:q} > {log.run:q} 2>&1"


# Needs SGLang itself; a simulated server is not enough.
rule bench_serving:
    input:
        expand("<results>/live/bench_serving/{variant}.json", variant=LIVE.variants),


rule text_replay:
    input:
        live_traces(f"<results>/tables/texts_{{trace}}_{LIVE.vocabulary}.csv"),
