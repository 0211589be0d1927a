"""Figure 7: token hit rates of vLLM+ and Marconi over all configurations of each data set."""

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.figure import Figure

from marconi_core.plots.panels import grid
from marconi_core.plots.style import (
    PAPER_COLOR,
    POLICY_COLORS,
    POLICY_NAMES,
    box_statistics,
    draw_boxes,
    paper_style,
    two_lines,
)
from marconi_core.report.metrics import PAPER_DECIMALS, hit_rates, ratios
from marconi_core.report.roles import Role

POLICIES = ("vllm_plus", "marconi")
MEASURE = "mean_ratio_over_vllm_plus"  # that the paper prints


def table(runs: pd.DataFrame, roles: Sequence[Role], paper: Mapping[str, str]) -> pd.DataFrame:
    """Return the drawn numbers: one row per data set and policy, hit rates in percent.

    Args:
        runs: result rows of all data sets.
        roles: data sets in drawing order.
        paper: the paper's mean ratio, as printed, by the paper's data set.
    """
    rows = []
    for role in roles:
        own = runs[runs["dataset"] == role.dataset]
        rates = hit_rates(own, POLICIES)
        ratio = ratios(hit_rates(own, POLICIES, PAPER_DECIMALS), "marconi", "vllm_plus").mean()
        printed = paper.get(role.paper_dataset or "", "")
        rows += [
            {"dataset": role.dataset, "label": role.label, "policy": policy}
            | box_statistics(rates[policy])
            | {"mean_ratio": ratio, "paper_mean_ratio": printed}
            for policy in POLICIES
        ]
    return pd.DataFrame(rows)


def draw(boxes: pd.DataFrame) -> Figure:
    """Draw one panel per data set from the rows of `table`."""
    datasets = boxes["dataset"].unique()
    with paper_style():
        figure, panels = grid(len(datasets), (2.2, 2.7), sharey=True)
        for (axes,), dataset in zip(panels, datasets, strict=True):
            panel = boxes[boxes["dataset"] == dataset]
            draw_boxes(axes, panel, [POLICY_COLORS[policy] for policy in panel["policy"]])
            axes.set_xticks(range(len(panel)), [POLICY_NAMES[p] for p in panel["policy"]])
            first = panel.iloc[0]
            axes.set_title(two_lines(first["label"]))
            axes.grid(visible=False, axis="x")
            axes.text(
                0.04, 0.97, f"mean ratio\nhere {first['mean_ratio']:.2f}x",
                transform=axes.transAxes, va="top",
            )  # fmt: skip
            if first["paper_mean_ratio"]:
                axes.text(
                    0.04, 0.80, f"paper {first['paper_mean_ratio']}x",
                    transform=axes.transAxes, va="top", color=PAPER_COLOR,
                )  # fmt: skip
        axes.set_ylim(0, 100)
        figure.supylabel("token hit rate (%)")
    return figure
