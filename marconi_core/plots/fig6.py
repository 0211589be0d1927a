"""Figure 6: lengths of prompts and outputs."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from marconi_core.plots.panels import grid
from marconi_core.plots.style import SERIES_COLORS, paper_style, two_lines
from marconi_core.report.roles import Role

BIN_TOKENS = {"lmsys": 500, "sharegpt": 100, "swebench": 500}  # the paper's
KINDS = {"input_tokens": "input (tokens)", "output_tokens": "output (tokens)"}


def table(rows: pd.DataFrame, roles: Sequence[Role]) -> pd.DataFrame:
    """Return the drawn numbers: requests by data set, kind of length, and bin."""
    frames = []
    for role in roles:
        own = rows[rows["dataset"] == role.dataset]
        if own.empty:
            continue
        width = BIN_TOKENS[str(role.paper_dataset)]
        for kind in KINDS:
            counts = np.bincount(own[kind] // width)
            frames.append(
                pd.DataFrame(
                    {
                        "dataset": role.dataset,
                        "label": role.label,
                        "kind": kind,
                        "from_tokens": width * np.arange(len(counts)),
                        "bin_tokens": width,
                        "requests": counts,
                    }
                )
            )
    return pd.concat(frames, ignore_index=True)


def draw(bins: pd.DataFrame, paper: Mapping[str, str]) -> Figure:
    """Draw two panels per data set from the rows of `table`: inputs above, outputs below."""
    names = bins["dataset"].unique()
    with paper_style():
        figure, panels = grid(len(names), (2.2, 3.6), parts=2)
        for parts, name in zip(panels, names, strict=True):
            for axes, kind, color in zip(parts, KINDS, SERIES_COLORS, strict=False):
                own = bins[(bins["dataset"] == name) & (bins["kind"] == kind)]
                width = own["bin_tokens"].iloc[0]
                edges = [*own["from_tokens"], own["from_tokens"].iloc[-1] + width]
                axes.stairs(own["requests"], edges, fill=True, color=color)
                axes.set_xlim(0, edges[-1])
                axes.set_xlabel(KINDS[kind])
                axes.xaxis.set_major_locator(MaxNLocator(3))
            parts[0].set_title(two_lines(own["label"].iloc[0]))
        figure.supylabel("requests")
    return figure
