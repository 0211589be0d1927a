"""Every policy beside the bound: what any cache of the same size could serve, knowing the future."""

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.figure import Figure

from marconi_core.plots import policies
from marconi_core.plots.panels import panels
from marconi_core.plots.style import paper_style
from marconi_core.report.roles import Role

BOUNDS = ("schedule", "upper", "unlimited")


def table(rows: pd.DataFrame, roles: Sequence[Role]) -> pd.DataFrame:
    """Return one row per data set and policy, as `policies.table`, with the bounds' means.

    `regret` is how much of the upper bound a policy leaves, in percent of it.
    """
    runs = rows[~rows["policy"].isin(BOUNDS)]
    means = 100 * rows.pivot_table("token_hit_rate", "dataset", "policy", "mean")[list(BOUNDS)]
    found = policies.table(runs, roles).merge(means, left_on="dataset", right_index=True)
    return found.assign(regret=100 * (1 - found["mean"] / found["upper"]))


def draw(rows: pd.DataFrame, paper: Mapping[str, str]) -> Figure:
    """Draw one panel per data set from the rows of `table`."""
    with paper_style():
        figure, parts = panels(rows, policies.size_of_bars(rows), margin=1.1, in_a_row=3)
        for axes, own in parts:
            policies.draw_bars(axes, own)
            schedule, upper = own["schedule"].iloc[0], own["upper"].iloc[0]
            axes.axvspan(schedule, upper, color="black", linewidth=1)
            axes.set_xlabel(f"token hit rate (%), mean\nbest possible: {_range(schedule, upper)}")
    return figure


def _range(low: float, high: float) -> str:
    return f"{low:.1f}" if f"{low:.1f}" == f"{high:.1f}" else f"{low:.1f} to {high:.1f}"
