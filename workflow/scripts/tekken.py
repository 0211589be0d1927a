"""Rebuilds Tekken's tokenizer.json from Mistral's vocabulary."""

from marconi_core.rules.log import rule_log
from marconi_core.traces.tekken import build_tekken


def main(snakemake):
    with rule_log(snakemake.log[0]):
        build_tekken(snakemake.input.vocabulary, snakemake.output.tokenizer)


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
