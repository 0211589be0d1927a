"""Figure 3a: blocks of vLLM+ whose KVs, and whose states, are ever used again."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from marconi_core.plots.panels import labelled, panels
from marconi_core.plots.style import PAPER_COLOR, SERIES_COLORS, paper_style
from marconi_core.report.roles import Role

KINDS = {"kvs_percent": "KVs", "states_percent": "SSM states"}
WIDTH = 0.38


def table(rows: pd.DataFrame, roles: Sequence[Role]) -> pd.DataFrame:
    """Return the drawn numbers: one row per data set and block size."""
    return labelled(rows, roles)


def draw(rows: pd.DataFrame, paper: Mapping[str, str]) -> Figure:
    """Draw one panel per data set from the rows of `table`; a diamond marks a printed value."""
    printed = {"kvs_percent": paper["fig3a-kv"], "states_percent": paper["fig3a-state"]}
    with paper_style():
        figure, parts = panels(rows, (2.8, 3.0))
        for axes, own in parts:
            positions = np.arange(len(own))
            for side, (column, name) in enumerate(KINDS.items()):
                x = positions + (side - 0.5) * WIDTH
                bars = axes.bar(x, own[column], WIDTH, color=SERIES_COLORS[side], label=name)
                axes.bar_label(bars, fmt="%.2g", fontsize=7, padding=1)
                axes.plot(
                    x[:1], [float(printed[column])], "D", color=PAPER_COLOR, markersize=5,
                    label="paper, block size 32" if side else None,
                )  # fmt: skip
            axes.set_yscale("log")
            axes.set_ylim(0.05, 120)
            axes.set_xticks(positions, own["block_size"].astype(str))
            axes.set_xlabel("block size (tokens)")
            axes.grid(visible=False, axis="x")
        figure.supylabel("blocks reused (%)")
    return figure
