"""Draws a figure that follows from the paper's formulas; the rule is named like its module."""

from importlib import import_module

from marconi_core.plots.style import save_with_data
from marconi_core.report.claims import printed_by_claim
from marconi_core.rules.log import rule_log


def main(snakemake):
    with rule_log(snakemake.log[0]):
        figure = import_module(f"marconi_core.plots.{snakemake.rule}")
        rows = figure.table()
        save_with_data(figure.draw(rows, printed_by_claim()), rows, snakemake.output)


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
