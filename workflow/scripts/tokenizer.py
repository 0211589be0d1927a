"""Rebuilds Llama-2's tokenizer.json from its vocabulary."""

from marconi_core.rules.log import rule_log
from marconi_core.traces.tokenizers import build_llama2


def main(snakemake):
    with rule_log(snakemake.log[0]):
        build_llama2(snakemake.input.vocabulary, snakemake.output.tokenizer)


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
