# The whole chain on tiny random data: a second Snakemake, so that nothing mixes with real results.


rule smoke:
    input:
        config="workflow/config/smoke.yaml",
    output:
        done=touch("<results>/smoke.done"),
    log:
        "<logs>/smoke.log",
    localrule: True
    conda:
        "../envs/core.yaml"
    threads: 4
    params:
        python=sys.executable,
        code=code_digest("."),
    message:
        "Running the whole chain on tiny random data, into results/smoke."
    shell:
        "{params.python:q} -m snakemake --configfile {input.config:q} --cores {threads} > {log:q} 2>&1"
