# Wheels of servers with Marconi, for `pip install` where the GPU is.


rule server_wheels:
    input:
        lambda wildcards: [
            path
            for folder in (f"v{wildcards.sglang}", "marconi_sglang")
            for path in sorted(map(str, Path(PATCHES, folder).rglob("*.*")))
            if not path.endswith(".pyc")
        ],
        "pyproject.toml",
        f"{PATCHES}/pyproject.toml",
    output:
        folder=directory("<results>/server/{sglang}"),
    log:
        "<logs>/server_wheels/{sglang}.log",
    retries: 1
    localrule: True
    conda:
        "../envs/core.yaml"
    params:
        code=code_digest("."),
    message:
        "Building the wheels of SGLang {wildcards.sglang} with Marconi."
    script:
        "../scripts/server_wheels.py"


rule build_server:
    input:
        expand("<results>/server/{sglang}", sglang=releases()),
