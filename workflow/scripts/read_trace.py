"""Compiles a ready trace in the paper's JSONL format."""

from marconi_core.rules.log import rule_log
from marconi_core.traces.jsonl import read_trace


def main(snakemake):
    with rule_log(snakemake.log[0]):
        read_trace(snakemake.input.jsonl).save(snakemake.output.trace)


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
