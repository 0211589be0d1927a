"""Figure 3b: cache size of one sequence whose SSM states are kept at every block."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator

from marconi_core.models import MODELS
from marconi_core.models.paper import TRANSFORMER_7B, blockwise_bytes
from marconi_core.plots.style import PAPER_COLOR, SERIES_COLORS, paper_style

BLOCKS = (8, 16, 32)
GPU_BYTES = 40e9  # A100-40GB
PRINTED_AT = 10_000  # tokens
LENGTHS = np.arange(1, 16_384, 9)  # meets 10,000, and no multiple of a block again and again
NAMES = {
    **{f"block_{block}": f"hybrid, block size {block}" for block in BLOCKS},
    "kvs": "Transformer",
}


def table() -> pd.DataFrame:
    """Return gigabytes by length in tokens, one column a block size, and for a Transformer's KVs."""
    model = MODELS["paper_7b"]
    columns = {f"block_{block}": blockwise_bytes(model, LENGTHS, block) for block in BLOCKS}
    columns["kvs"] = LENGTHS * TRANSFORMER_7B.kv_bytes
    return pd.DataFrame({"tokens": LENGTHS} | {name: size / 1e9 for name, size in columns.items()})


def draw(sizes: pd.DataFrame, paper: Mapping[str, str]) -> Figure:
    """Draw one line a column of `table`; a diamond marks the paper's printed value."""
    printed = paper["fig3b-bytes"]
    with paper_style():
        figure = Figure(figsize=(3.4, 2.8), layout="constrained")
        axes = figure.subplots()
        styles = zip(NAMES.items(), SERIES_COLORS, ("-", "--", "-.", ":"), strict=False)
        for (column, name), color, line in styles:
            axes.plot(sizes["tokens"], sizes[column], color=color, linestyle=line, label=name)
        axes.axhline(GPU_BYTES / 1e9, color="black", linewidth=0.8)
        axes.annotate(
            "one GPU's 40 GB", (300, GPU_BYTES / 1e9), (0, 2), textcoords="offset points",
            ha="left", va="bottom",
        )  # fmt: skip
        axes.plot(
            PRINTED_AT, float(printed), "D", color=PAPER_COLOR, markersize=5,
            label=f"paper: {printed} GB\n(block size 16)",
        )  # fmt: skip
        axes.set_yscale("log")
        axes.set_ylim(1e-2, 120)
        axes.set_xlim(0, 16_384)
        axes.set_xlabel("sequence length (tokens)")
        axes.set_ylabel("cache of one sequence (GB)")
        axes.xaxis.set_major_locator(MultipleLocator(4_000))
        axes.legend(loc="lower right")
    return figure
