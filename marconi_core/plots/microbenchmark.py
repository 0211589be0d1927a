"""What Figures 11, 12a, 12b, 13a and 13b share: token hit rates while one thing varies."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from marconi_core.assets import resource
from marconi_core.plots.panels import labelled, panels
from marconi_core.plots.style import (
    PAPER_COLOR,
    POLICY_COLORS,
    POLICY_LINES,
    POLICY_MARKERS,
    POLICY_NAMES,
    paper_style,
)
from marconi_core.report.roles import Role


@dataclass(frozen=True)
class Microbenchmark:
    """One of these figures.

    Attributes:
        figure: its name, and that of its experiment and of its points in ``curves.csv``.
        label: of the axis of what varies.
        normalised: rates are drawn relative to Marconi's.
    """

    figure: str
    label: str
    normalised: bool = False

    def table(self, rows: pd.DataFrame, roles: Sequence[Role]) -> pd.DataFrame:
        """Return the drawn numbers: one row per data set, point and policy.

        Args:
            rows: what the experiment found on all data sets.

        Returns:
            With hit rates in percent, here and as the paper's script has them, and both relative to
            Marconi's (in percent of it; empty where Marconi never hits).
        """
        curves = pd.read_csv(resource("expected/curves.csv"), dtype={"x": str}, comment="#")
        paper = curves[curves["figure"] == self.figure].drop(columns="figure")
        table = labelled(rows, roles).assign(hit_rate_percent=lambda t: 100 * t["token_hit_rate"])
        table = table.drop(columns="token_hit_rate").merge(
            paper.rename(columns={"hit_rate_percent": "paper_hit_rate_percent"}),
            on=["x", "policy"], how="left",
        )  # fmt: skip
        for column in ("hit_rate_percent", "paper_hit_rate_percent"):
            marconi = table[column].where(table["policy"] == "marconi")
            reference = marconi.groupby([table["dataset"], table["x"]]).transform("max")
            table[column.replace("percent", "of_marconi")] = (
                100 * table[column] / reference.where(reference > 0)
            )
        return table

    def draw(self, rows: pd.DataFrame, paper: Mapping[str, str]) -> Figure:
        """Draw one panel per data set from the rows of `table`, with the paper's values in orange."""
        shown = "hit_rate_of_marconi" if self.normalised else "hit_rate_percent"
        with paper_style():
            drawing, parts = panels(rows, (2.8, 3.0), margin=0.7)
            for axes, own in parts:
                points = own["x"].unique()
                for policy in own["policy"].unique():
                    line = own[own["policy"] == policy]
                    look: dict[str, Any] = {
                        "marker": POLICY_MARKERS[policy],
                        "linestyle": POLICY_LINES[policy],
                    }
                    axes.plot(
                        points, line[shown], color=POLICY_COLORS[policy], markersize=4,
                        label=POLICY_NAMES[policy], **look,
                    )  # fmt: skip
                    axes.plot(
                        points, line[f"paper_{shown}"], color=PAPER_COLOR, markersize=4, linewidth=0.8,
                        markerfacecolor="white", label=f"{POLICY_NAMES[policy]}, paper", **look,
                    )  # fmt: skip
                axes.set_xlabel(self.label)
            axes.set_ylim(0)  # of all panels, and not before all have been drawn
            unit = "% of Marconi's" if self.normalised else "%"
            drawing.supylabel(f"token hit rate ({unit})")
        return drawing
