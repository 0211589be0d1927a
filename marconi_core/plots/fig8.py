"""Figure 8: gain in token hit rate of Marconi over SGLang+, all configurations of each data set."""

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.figure import Figure

from marconi_core.plots.panels import grid
from marconi_core.plots.style import (
    PAPER_COLOR,
    POLICY_COLORS,
    box_statistics,
    draw_boxes,
    paper_style,
    two_lines,
)
from marconi_core.report.metrics import PAPER_DECIMALS, hit_rates, relative_gains
from marconi_core.report.roles import Role

POLICIES = ("sglang_plus", "marconi")
MEASURE = "p95_gain_over_sglang_plus"  # that the paper prints


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
    """Draw one panel per data set from the rows of `table`; a diamond marks the paper's P95."""
    with paper_style():
        figure, panels = grid(len(boxes), (1.9, 2.7))
        for index, (axes,) in enumerate(panels):
            panel = boxes.iloc[[index]]
            box = boxes.iloc[index]
            draw_boxes(axes, panel, [POLICY_COLORS["marconi"]])
            axes.axhline(0, color="black", linewidth=0.8)
            lines = [f"P95 here {box['p95']:.2f} %"]
            if box["paper_p95"]:  # beside the box, so that it hides nothing
                axes.plot(0.4, float(box["paper_p95"]), "D", color=PAPER_COLOR, markersize=6)
                lines.append(f"paper {box['paper_p95']} % (◆)")
            axes.set_xlabel("\n".join(lines))
            axes.set_xticks([])
            axes.set_xlim(-0.55, 0.55)
            axes.set_title(two_lines(box["label"]))
        figure.supylabel("gain over SGLang+ (% of its hit rate)")
    return figure
