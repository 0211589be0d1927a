"""Which results depend on the model: hit rates of hybrids with equal bytes, and with equal shares."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from marconi_core.plots.panels import TEXT_WIDTH, labelled
from marconi_core.plots.style import POLICY_COLORS, POLICY_MARKERS, POLICY_NAMES, paper_style
from marconi_core.report.metrics import hit_rates, ratios, relative_gains
from marconi_core.report.roles import Role

NAMES = {
    "paper_7b": "paper's 7B (formulas)",
    "nemotron_h_8b_formulas": "Nemotron-H-8B (formulas)",
    "jamba_1_5_mini": "Jamba-1.5-Mini",
    "falcon_h1_7b": "Falcon-H1-7B",
    "qwen3_next_80b_a3b": "Qwen3-Next-80B-A3B",
    "nemotron_h_8b": "Nemotron-H-8B",
    "granite_4_h_small": "Granite-4.0-H-Small",
}
SCALES = {"bytes": "caches of equal bytes", "share": "caches of equal share"}


def table(rows: pd.DataFrame, roles: Sequence[Role]) -> pd.DataFrame:
    """Return one row per data set, scale and model, with means over configurations in percent.

    `ratio_to_vllm_plus` is the mean over `ratio_configurations`, those in which vLLM+ hits at all;
    `p95_gain` is over SGLang+, in percent. `cache_scale` is the size of caches, configured ones
    being 1.
    """
    found = []
    for (dataset, scale, model), own in rows.groupby(["dataset", "scale", "model"]):
        rates = hit_rates(own, POLICY_MARKERS)
        ratio = ratios(rates, "marconi", "vllm_plus")
        gains = relative_gains(rates, "marconi", "sglang_plus")
        first = own.iloc[0]
        found.append(
            {
                "dataset": dataset,
                "scale": scale,
                "model": model,
                "state_bytes": first["state_bytes"],
                "kv_bytes_per_token": first["kv_bytes_per_token"],
                "tokens_per_state": first["state_bytes"] / first["kv_bytes_per_token"],
                "cache_scale": (own["cache_bytes"] / own["capacity_bytes"]).mean(),
                **rates[list(POLICY_MARKERS)].mean().to_dict(),
                "ratio_to_vllm_plus": ratio.mean(),
                "ratio_configurations": len(ratio),
                "p95_gain": np.percentile(gains, 95) if len(gains) else np.nan,
                "configurations": len(rates),
            }
        )
    frame = pd.DataFrame(found)
    order = {name: place for place, name in enumerate((*SCALES, *NAMES))}
    frame = frame.sort_values(["scale", "model"], key=lambda names: names.map(order), kind="stable")
    return labelled(frame, roles)


def draw(rows: pd.DataFrame, paper: Mapping[str, str]) -> Figure:
    """Draw a row of panels per data set from the rows of `table`, a panel per scale."""
    datasets = list(rows["dataset"].unique())
    with paper_style():
        figure = Figure(figsize=(TEXT_WIDTH, 0.4 + 2.8 * len(datasets)), layout="constrained")
        grid = figure.subplots(len(datasets), len(SCALES), sharey=True, squeeze=False)
        for row_of_axes, dataset in zip(grid, datasets, strict=True):
            for axes, scale in zip(row_of_axes, SCALES, strict=True):
                own = rows[(rows["dataset"] == dataset) & (rows["scale"] == scale)]
                _draw_panel(axes, own)
                axes.set_title(f"{own['label'].iloc[0]}\n{SCALES[scale]}", loc="left", pad=22)
        for axes in grid[-1]:
            axes.set_xlabel("token hit rate (%), mean")
        handles, labels = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(handles))
    return figure


def _draw_panel(axes: Axes, rows: pd.DataFrame) -> None:
    places = np.arange(len(rows))
    for policy, marker in POLICY_MARKERS.items():
        axes.plot(
            rows[policy], places, marker, color=POLICY_COLORS[policy], label=POLICY_NAMES[policy],
            markersize=5.5, alpha=0.85,
        )  # fmt: skip
    axes.set_xlim(0, 100)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    names = [
        f"{NAMES[model]}\n1 state = {tokens:,.0f} tokens"
        for model, tokens in zip(rows["model"], rows["tokens_per_state"], strict=True)
    ]
    axes.set_yticks(places, names, fontsize=7)
    columns = (
        (40, "ratio to\nvLLM+", [f"{ratio:.1f}x" for ratio in rows["ratio_to_vllm_plus"]]),
        (86, "P95 gain,\nSGLang+", [f"{gain:+.0f} %" for gain in rows["p95_gain"]]),
    )
    for right, heading, numbers in columns:
        for place, text in zip((-1, *places), (heading, *numbers), strict=True):
            axes.annotate(
                "none" if "nan" in text else text, (1, place), (right, 0),
                xycoords=axes.get_yaxis_transform(), textcoords="offset points",
                fontsize=7, ha="right", va="center", annotation_clip=False,
            )  # fmt: skip
