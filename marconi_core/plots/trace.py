"""A trace: histograms of the lengths, and how much of its prompts a cache could know already."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from marconi_core.plots.panels import TEXT_WIDTH
from marconi_core.plots.style import SERIES_COLORS, paper_style
from marconi_core.traces.describe import shared_prefixes
from marconi_core.traces.trace import Trace


def draw(trace: Trace, title: str = "") -> Figure:
    """Draw lengths of prompts and outputs, and the shares of known prompt tokens by length."""
    same, other = shared_prefixes(trace)
    longest = int(trace.n_in.max())
    with paper_style():
        figure = Figure(figsize=(TEXT_WIDTH, 2.6), layout="constrained")
        figure.suptitle(title, fontsize=9, parse_math=False)
        left, middle, right = figure.subplots(1, 3)
        left.hist(trace.n_in, bins=40, range=(0, longest), color=SERIES_COLORS[0])
        left.set(xlabel="input (tokens)", ylabel="requests")
        longest_output = max(1, int(trace.n_out.max()))
        middle.hist(trace.n_out, bins=40, range=(0, longest_output), color=SERIES_COLORS[0])
        middle.set(xlabel="output (tokens)", ylabel="requests")
        edges = np.linspace(0, longest + 1, 11)
        series = ((same, "the same", "-"), (other, "another", "--"))
        for (shared, label, line), color in zip(series, SERIES_COLORS, strict=False):
            known = _share_per_bin(trace.n_in, shared, edges)
            right.stairs(
                known, edges, baseline=None, color=color, linestyle=line, linewidth=1.6,
                label=f"seen in {label} session",
            )  # fmt: skip
        right.set(xlabel="input (tokens)", ylabel="known part of prompts (%)", ylim=(0, 102))
        for axes in (left, middle, right):
            axes.xaxis.set_major_locator(MaxNLocator(4))
        handles, labels = right.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower right", ncols=2)
    return figure


def _share_per_bin(
    lengths: NDArray[np.int64], shared: NDArray[np.int64], edges: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the token-weighted share (%) for each bin of prompt lengths; NaN in an empty bin."""
    tokens, _ = np.histogram(lengths, edges, weights=lengths)
    known, _ = np.histogram(lengths, edges, weights=shared)
    return np.asarray(100 * known / np.where(tokens, tokens, np.nan))
