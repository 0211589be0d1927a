"""Draws Figure 8 from the result tables."""

from marconi_core.plots import fig8
from marconi_core.plots.style import save_with_data
from marconi_core.report.claims import printed_values
from marconi_core.report.metrics import read_tables
from marconi_core.report.roles import Role
from marconi_core.rules.log import rule_log


def main(snakemake):
    with rule_log(snakemake.log[0]):
        roles = [Role(**role) for role in snakemake.params.roles]
        paper = printed_values("p95_gain_over_sglang_plus")
        boxes = fig8.table(read_tables(snakemake.input.runs), roles, paper)
        save_with_data(fig8.draw(boxes), boxes, snakemake.output)


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
