"""Draws Figure 7 from the result tables."""

from marconi_core.plots import fig7
from marconi_core.plots.style import save_with_data
from marconi_core.report.claims import printed_values
from marconi_core.report.metrics import read_tables
from marconi_core.report.roles import Role
from marconi_core.rules.log import rule_log


def main(snakemake):
    with rule_log(snakemake.log[0]):
        roles = [Role(**role) for role in snakemake.params.roles]
        paper = printed_values("mean_ratio_over_vllm_plus")
        boxes = fig7.table(read_tables(snakemake.input.runs), roles, paper)
        save_with_data(fig7.draw(boxes), boxes, snakemake.output)


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
