"""Builds the wheels of a server and their manifest, from the checkout that this runs in."""

from pathlib import Path

from marconi_core.rules.log import rule_log
from marconi_core.serving.build import build


def main(snakemake):
    with rule_log(snakemake.log[0]):
        build(snakemake.wildcards.sglang, Path(snakemake.output.folder))


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
