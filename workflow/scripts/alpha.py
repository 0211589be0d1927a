"""Draws Marconi's tuned alpha beside the best static one."""

from marconi_core.plots import alpha
from marconi_core.plots.style import save_with_data
from marconi_core.report.roles import Role
from marconi_core.rules.log import rule_log


def main(snakemake):
    with rule_log(snakemake.log[0]):
        roles = [Role(**role) for role in snakemake.params.roles]
        parts = alpha.rows(snakemake.input.runs, snakemake.input.requests)
        rows = alpha.table(parts, roles)
        save_with_data(alpha.draw(rows, {}), rows, snakemake.output)


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
