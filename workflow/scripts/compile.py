"""Reads, tokenizes and compiles one data set."""

from marconi_core.rules.log import rule_log
from marconi_core.traces.sources import load_workload


def main(snakemake):
    with rule_log(snakemake.log[0]):
        workload = load_workload(
            snakemake.params.source,
            snakemake.params.options,
            snakemake.params.data_dir,
            snakemake.input.get("tokenizer"),
        )
        workload.save(snakemake.output.workload)


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
