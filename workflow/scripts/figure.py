"""Draws a figure from result tables; the rule is named like its module."""

from importlib import import_module

from marconi_core.plots.style import save_with_data
from marconi_core.report.claims import printed_by_claim
from marconi_core.report.metrics import read_tables
from marconi_core.report.roles import Role
from marconi_core.rules.log import rule_log


def main(snakemake):
    with rule_log(snakemake.log[0]):
        roles = [Role(**role) for role in snakemake.params.roles]
        figure = import_module(f"marconi_core.plots.{snakemake.rule}")
        rows = figure.table(read_tables(snakemake.input.rows), roles)
        save_with_data(figure.draw(rows, printed_by_claim()), rows, snakemake.output)


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
