"""Finds out which optional data sets can be had, and why the others cannot."""

from marconi_core.config import load_config
from marconi_core.rules.availability import check_optional, write_reasons
from marconi_core.rules.log import rule_log


def main(snakemake):
    with rule_log(snakemake.log[0]):
        write_reasons(check_optional(load_config(snakemake.config)), snakemake.output.reasons)


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
