"""Draws Figure 9 for one data set from the request tables."""

from marconi_core.plots import fig9
from marconi_core.plots.style import save_with_data
from marconi_core.report.claims import printed_values
from marconi_core.report.latency import PUBLISHED, measured
from marconi_core.report.metrics import read_tables
from marconi_core.report.roles import Role
from marconi_core.rules.log import rule_log


def main(snakemake):
    with rule_log(snakemake.log[0]):
        [role] = [Role(**role) for role in snakemake.params.roles]
        paper = printed_values("ttft_points_under_vanilla")
        requests = read_tables(snakemake.input.requests, fig9.POLICIES)
        rows = fig9.table(requests, role, paper, [PUBLISHED, measured()])
        save_with_data(fig9.draw(rows), rows, snakemake.output)


if "snakemake" in globals():
    main(snakemake)  # noqa: F821
