"""All policies that were simulated: mean token hit rate over the configurations of each data set."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from marconi_core.plots.panels import labelled, panels
from marconi_core.plots.style import paper_style
from marconi_core.policies import POLICIES
from marconi_core.report.metrics import CONFIGURATION
from marconi_core.report.roles import Role


def table(runs: pd.DataFrame, roles: Sequence[Role]) -> pd.DataFrame:
    """Return one row per data set and policy: mean, P5 and P95 over configurations, in percent.

    Of policies with a static alpha, the best alpha of each configuration counts.
    """
    best = 100 * runs.groupby([*CONFIGURATION, "policy"])["token_hit_rate"].max()
    groups = best.groupby(["dataset", "policy"])
    rows = groups.agg(
        mean="mean",
        p5=lambda rates: np.percentile(rates, 5),
        p95=lambda rates: np.percentile(rates, 95),
        configurations="size",
    ).reset_index()
    order = rows["policy"].map({name: place for place, name in enumerate(POLICIES)})
    return labelled(rows.iloc[np.argsort(order, kind="stable")], roles)


def draw(rows: pd.DataFrame, paper: Mapping[str, str]) -> Figure:
    """Draw one panel per data set from the rows of `table`."""
    with paper_style():
        figure, parts = panels(rows, size_of_bars(rows), margin=1.1, in_a_row=3)
        for axes, own in parts:
            draw_bars(axes, own)
    return figure


def size_of_bars(rows: pd.DataFrame) -> tuple[float, float]:
    """Return the size of a panel for `draw_bars`."""
    return 1.9, 1.0 + 0.22 * rows["policy"].nunique()


def draw_bars(axes: Axes, rows: pd.DataFrame) -> None:
    """Draw a bar per policy, the first on top, and its value beside it."""
    places = np.arange(len(rows))
    colors = [POLICIES[policy].color for policy in rows["policy"]]
    bars = axes.barh(places, rows["mean"], 0.7, color=colors)
    axes.bar_label(bars, fmt="%.1f", fontsize=7, padding=2)
    axes.set_yticks(places, [POLICIES[policy].label for policy in rows["policy"]])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(0, 105)
    axes.set_xlabel("token hit rate (%), mean")
    axes.grid(visible=False, axis="y")
