"""Figure 14: prefill FLOPs by kind of layer."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from marconi_core.models import MODELS
from marconi_core.models.paper import PaperModel
from marconi_core.plots.style import SERIES_COLORS, paper_style

LENGTHS = np.arange(1, 65_537, 257)
KINDS = {"mlp": "MLP", "mamba": "SSM", "attention": "attention"}


def table() -> pd.DataFrame:
    """Return FLOPs by length, one column a kind of layer, and the share of attention in percent.

    `mamba_as_drawn` is that of the paper's plotting script: 10 L in place of 10 L D.
    """
    geometry = MODELS["paper_7b"]
    parts = PaperModel(geometry).breakdown(LENGTHS)
    recurrence = 10 * LENGTHS * geometry.num_ssm_layers
    total = parts["mlp"] + parts["mamba"] + parts["attention"]
    return pd.DataFrame(
        {
            "tokens": LENGTHS,
            **{kind: parts[kind] for kind in KINDS},
            "mamba_as_drawn": parts["mamba"] - recurrence * geometry.d + recurrence,
            "attention_percent": 100 * parts["attention"] / total,
        }
    )


def draw(parts: pd.DataFrame, paper: Mapping[str, str]) -> Figure:
    """Stack the kinds of layers from the rows of `table`."""
    geometry = MODELS["paper_7b"]
    layers = {
        "mlp": geometry.num_mlp_layers,
        "mamba": geometry.num_ssm_layers,
        "attention": geometry.num_attn_layers,
    }
    with paper_style():
        figure = Figure(figsize=(3.4, 2.6), layout="constrained")
        axes = figure.subplots()
        axes.stackplot(
            parts["tokens"] / 1e3,
            [parts[kind] / 1e15 for kind in KINDS],
            labels=[f"{layers[kind]} {name} layers" for kind, name in KINDS.items()],
            colors=SERIES_COLORS,
            edgecolor="white",
            linewidth=0.4,
        )
        axes.set_xlim(0, parts["tokens"].max() / 1e3)
        axes.set_xlabel("sequence length (thousand tokens)")
        axes.set_ylabel("prefill (PFLOP)")
        handles, labels = axes.get_legend_handles_labels()
        axes.legend(handles[::-1], labels[::-1], loc="upper left")
    return figure
