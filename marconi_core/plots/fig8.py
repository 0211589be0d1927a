"""Figure 8: gain in token hit rate of Marconi over SGLang+, all configurations of each data set."""

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from marconi_core.metrics import PAPER_DECIMALS, hit_rates, relative_gains
from marconi_core.plots.style import (
    PAPER_COLOR,
    POLICY_COLORS,
    box_statistics,
    draw_boxes,
    paper_style,
    two_lines,
)
from marconi_core.roles import Role

POLICIES = ("sglang_plus", "marconi")


def table(runs: pd.DataFrame, roles: Sequence[Role], paper: Mapping[str, str]) -> pd.DataFrame:
    """Return the drawn numbers: one row per data set, gains in percent of SGLang+'s hit rate.

    Args:
        runs: result rows of all data sets.
        roles: data sets in drawing order.
        paper: the paper's P95, as printed, by the paper's data set.
    """
    rows = []
    for role in roles:
        rates = hit_rates(runs[runs["dataset"] == role.dataset], POLICIES)
        gains = relative_gains(rates, "marconi", "sglang_plus", PAPER_DECIMALS)
        rows.append(
            {"dataset": role.dataset, "label": role.label}
            | box_statistics(gains)
            | {"minimum": gains.min(), "maximum": gains.max()}
            | {"paper_p95": paper.get(role.paper_dataset or "", "")}
        )
    return pd.DataFrame(rows)


def draw(boxes: pd.DataFrame) -> Figure:
    """Draw one box per data set from the rows of `table`; a diamond marks the paper's P95."""
    with paper_style():
        figure = Figure(figsize=(1.0 + 1.7 * len(boxes), 3.2), layout="constrained")
        axes = figure.subplots()
        draw_boxes(axes, boxes, [POLICY_COLORS["marconi"]] * len(boxes), width=0.4)
        for x, printed in enumerate(boxes["paper_p95"]):
            if printed:  # beside the box, so that it hides nothing
                axes.plot(x + 0.3, float(printed), "D", color=PAPER_COLOR, markersize=6)
        axes.axhline(0, color="black", linewidth=0.8)
        axes.set_xticks(range(len(boxes)), [_tick(box) for _, box in boxes.iterrows()])
        axes.set_xlim(-0.5, len(boxes) - 0.5)
        axes.grid(visible=False, axis="x")
        axes.set_ylabel("gain over SGLang+ (% of its hit rate)")
        paper = Line2D([], [], marker="D", linestyle="", color=PAPER_COLOR, label="paper's P95")
        axes.legend(handles=[paper], loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0)
    return figure


def _tick(box: pd.Series) -> str:
    printed = f"\n(paper {box['paper_p95']} %)" if box["paper_p95"] else ""
    return f"{two_lines(box['label'])}\nP95 {box['p95']:.2f} %{printed}"
