"""Fetches one registered file, from the mirror or its source, and checks it."""

from pathlib import Path

from marconi_core.config import load_config
from marconi_core.datasets import fetch
from marconi_core.rules.log import rule_log


def main(snakemake):
    with rule_log(snakemake.log[0]):
        config = load_config(snakemake.config)
        fetch(snakemake.params.name, Path(snakemake.output.file).parent, config.data_mirror)


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
