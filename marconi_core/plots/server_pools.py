"""A simulated server: token hit rate of every policy, with pools from tight to ample."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from marconi_core.plots.panels import grid
from marconi_core.plots.style import SERIES_COLORS, paper_style, two_lines
from marconi_core.report.roles import Role

MEASURES = {"token_hit_rate": "hit", "flops_saved_share": "flops"}
SINGLE = (
    "stock_0.5.6",
    "stock",
    "stock_extra_buffer",
    "admission_only",
    "marconi",
    "marconi_extra_buffer",
    "paper_tuner",
    "paper_admission",
    "seglen",
)
PRICES = {1.0: "oracle", 0.25: "oracle_lambda_0.25", 0.0: "oracle_lambda_0"}
"""Columns with the best fixed alpha, by lambda."""

GRAY = SERIES_COLORS[3]
LINES: dict[str, tuple[str, dict[str, Any]]] = {
    "stock_0.5.6": ("SGLang 0.5.6.post2", {"color": GRAY, "linestyle": ":"}),
    "stock": ("SGLang 0.5.16", {"color": "black", "linestyle": "--"}),
    "admission_only": ("admission only", {"color": SERIES_COLORS[2], "linestyle": "-."}),
    "alpha_0": ("Marconi, alpha 0", {"color": SERIES_COLORS[1]}),
    "oracle": ("best fixed alpha", {"color": GRAY, "linewidth": 4, "alpha": 0.5}),
    "marconi": ("Marconi, tuned", {"color": SERIES_COLORS[0], "marker": "o", "markersize": 3}),
}


def table(runs: pd.DataFrame, roles: Sequence[Role]) -> pd.DataFrame:
    """Return one row a trace and pair of pools: percent of prompt tokens hit, and of FLOPs saved.

    Columns are `hit_POLICY` and `flops_POLICY`. `oracle` is the best fixed alpha by hit rate, lambda
    = 1; `oracle_alpha` says which.
    """
    labels = {role.dataset: role.label for role in roles}
    rows = []
    by = ["dataset", "trace", "states", "kv_tokens"]
    for (dataset, trace, states, tokens), own in runs.groupby(by, sort=False):
        found = _columns(own)
        rows.append(
            {
                "dataset": dataset,
                "label": labels[str(dataset)],
                "trace": trace,
                "states": states,
                "kv_tokens": tokens,
                "oracle_alpha": found["oracle"]["alpha"],
                **{
                    f"{short}_{name}": 100 * run[long]
                    for long, short in MEASURES.items()
                    for name, run in found.items()
                },
            }
        )
    return pd.DataFrame(rows)


def _columns(runs: pd.DataFrame) -> dict[str, pd.Series]:
    """Return the run behind each column, of one trace and pair of pools."""
    found = {name: runs[runs["policy"] == name].iloc[0] for name in SINGLE}
    fixed = runs[runs["policy"] == "fixed"]
    zero = fixed[fixed["alpha"] == 0]
    if len(zero):
        found["alpha_0"] = zero.iloc[0]
    for price, name in PRICES.items():
        own = fixed[
            (fixed["other_pool"] == price) | (fixed["alpha"] == 0)
        ]  # then lambda is no matter
        found[name] = own.iloc[int(own["token_hit_rate"].argmax())]
    return found


def draw(rows: pd.DataFrame) -> Figure:
    """Draw one panel a trace from the rows of `table`."""
    traces = rows["trace"].unique()
    with paper_style():
        figure, panels = grid(len(traces), (3.2, 3.0), in_a_row=2, sharey=True)
        for (axes,), trace in zip(panels, traces, strict=True):
            _draw_panel(axes, rows[rows["trace"] == trace])
        figure.supylabel("token hit rate (%)")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def _draw_panel(axes: Axes, rows: pd.DataFrame) -> None:
    places = range(len(rows))
    for name, (label, style) in LINES.items():
        if f"hit_{name}" in rows:
            axes.plot(places, rows[f"hit_{name}"], label=label, **style)
    names = [
        f"{states}\n{_short(tokens)}"
        for states, tokens in zip(rows["states"], rows["kv_tokens"], strict=True)
    ]
    axes.set_xticks(places, names, fontsize=6)
    axes.set_ylim(0, 100)
    axes.set_title(two_lines(rows["label"].iloc[0]))
    axes.set_xlabel("state slots, KV tokens")


def _short(tokens: int) -> str:
    return f"{tokens / 1e6:.3g}M" if tokens >= 1e6 else f"{tokens / 1e3:.0f}k"
