"""Writes one trace in the paper's JSONL format."""

from marconi_core.config import load_config
from marconi_core.rules.log import rule_log
from marconi_core.rules.study import load_trace
from marconi_core.traces.jsonl import write_trace


def main(snakemake):
    with rule_log(snakemake.log[0]):
        config = load_config(snakemake.config)
        write_trace(
            load_trace(config, snakemake.wildcards.trace, snakemake.input.compiled),
            snakemake.output.jsonl,
        )


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
