# Data sets as published, every byte checked; and the tokenizer, rebuilt.


rule fetch:
    output:
        file="<data>/{file}",
    log:
        "<logs>/fetch/{file}.log",
    retries: 1
    localrule: True
    conda:
        "../envs/core.yaml"
    params:
        name=lambda wildcards: REGISTERED[wildcards.file],
    message:
        "Fetching {wildcards.file}, from the mirror folder or its source."
    script:
        "../scripts/fetch.py"


rule tokenizer:
    input:
        vocabulary=data_file(VOCABULARY),
    output:
        tokenizer="<data>/llama2-tokenizer.json",
    log:
        "<logs>/tokenizer.log",
    localrule: True
    conda:
        "../envs/core.yaml"
    params:
        code=code_digest("traces/tokenizers"),
    message:
        "Rebuilding Llama-2's tokenizer, byte for byte."
    script:
        "../scripts/tokenizer.py"


rule tekken:
    input:
        vocabulary=data_file("tekken_vocab"),
    output:
        tokenizer="<data>/tekken-tokenizer.json",
    log:
        "<logs>/tekken.log",
    localrule: True
    conda:
        "../envs/core.yaml"
    params:
        code=code_digest("traces/tekken", "traces/tokenizers"),
    message:
        "Rebuilding Tekken, which stands in for Nemotron-H's own tokenizer."
    script:
        "../scripts/tekken.py"


checkpoint availability:
    input:
        # not read here, but having them first keeps two jobs from downloading the same file
        [data_file(name) for dataset in REQUIRED for name in dataset.files_needed],
        [tokenizer_of(dataset) for dataset in REQUIRED],
    output:
        reasons="<results>/availability.json",
    log:
        "<logs>/availability.log",
    localrule: True
    conda:
        "../envs/core.yaml"
    params:
        mirror=str(STUDY.data_mirror),
        datasets=[STUDY.datasets[name].model_dump_json() for name in OPTIONAL],
    message:
        "Trying the optional data sets."
    script:
        "../scripts/availability.py"


rule retrieve:
    input:
        lambda wildcards: [
            data_file(name)
            for dataset in used(wildcards)
            for name in STUDY.datasets[dataset].files_needed
        ],
