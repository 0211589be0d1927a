"""Draws every simulated policy's mean token hit rate."""

from marconi_core.plots import policies
from marconi_core.plots.style import save_with_data
from marconi_core.report.metrics import read_tables
from marconi_core.report.roles import Role
from marconi_core.rules.log import rule_log


def main(snakemake):
    with rule_log(snakemake.log[0]):
        roles = [Role(**role) for role in snakemake.params.roles]
        rows = policies.table(read_tables(snakemake.input.runs), roles)
        save_with_data(policies.draw(rows, {}), rows, snakemake.output)


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
