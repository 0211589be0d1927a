"""Figure 5: prefill FLOPs that a cached prefix saves, per byte that it occupies."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator

from marconi_core.models import MODELS
from marconi_core.models.paper import TRANSFORMER_7B, Geometry, PaperModel
from marconi_core.plots.style import SERIES_COLORS, paper_style

LENGTHS = np.arange(1, 2048)
SHOWN = {
    "Mamba": Geometry(64, 0, 0, d=4096, n=128),
    "hybrid": MODELS["paper_7b"],
    "Transformer": TRANSFORMER_7B,
}


def table() -> pd.DataFrame:
    """Return FLOPs per byte by model and length.

    `flops_per_byte` has the formulas of the paper's text and simulator, `as_drawn` those of its
    plotting script, which adds 10 L for the recurrence of a Mamba layer and not 10 L D.
    """
    return pd.concat([_rows(name, geometry) for name, geometry in SHOWN.items()], ignore_index=True)


def _rows(name: str, geometry: Geometry) -> pd.DataFrame:
    model = PaperModel(geometry)
    size = LENGTHS * model.kv_bytes_per_token + model.state_bytes
    saved = model.flops(LENGTHS)
    recurrence = 10 * LENGTHS * geometry.num_ssm_layers
    drawn = saved - recurrence * geometry.d + recurrence
    return pd.DataFrame(
        {
            "model": name,
            "tokens": LENGTHS,
            "flops_per_byte": saved / size,
            "as_drawn": drawn / size,
        }
    )


def draw(rows: pd.DataFrame, paper: Mapping[str, str]) -> Figure:
    """Draw one line a model from the rows of `table`; the two formulas differ by less than a line."""
    with paper_style():
        figure = Figure(figsize=(3.4, 2.6), layout="constrained")
        axes = figure.subplots()
        for name, color, line in zip(SHOWN, SERIES_COLORS, ("-", "--", "-."), strict=False):
            own = rows[rows["model"] == name]
            axes.plot(
                own["tokens"], own["flops_per_byte"] / 1e3, color=color, linestyle=line, label=name
            )
        axes.set_xlim(0, LENGTHS[-1])
        axes.set_ylim(0)
        axes.xaxis.set_major_locator(MultipleLocator(500))
        axes.set_xlabel("cached prefix (tokens)")
        axes.set_ylabel("prefill saved (kFLOP / byte)")
        axes.legend(loc="upper left")
    return figure
