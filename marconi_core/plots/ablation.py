"""What each quirk of the paper's simulator is worth in the headline numbers."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from marconi_core.plots.panels import TEXT_WIDTH, labelled
from marconi_core.plots.style import SERIES_COLORS, paper_style
from marconi_core.policies import COMPARED
from marconi_core.report.metrics import PAPER_DECIMALS, hit_rates, ratios, relative_gains
from marconi_core.report.roles import Role

NAMES = {
    "paper": "the paper's code",
    "mlp_of_parent": "MLP FLOPs of the parent",
    "own_kvs": "KVs of the own edge only",
    "own_bytes": "bytes of the evicted leaf",
    "whole_edges": "no match beyond an edge",
    "capacity": "capacity kept",
    "expanded_state": "SSM state x 2",
    "tuned_by_hits": "tuned by hit rate",
    "tuned_from_snapshot": "tuned from a snapshot",
    "formulas": "the first four",
    "everything": "all",
}
METRICS = {
    "mean_hit_rate": "mean hit rate\n(% points)",
    "mean_ratio": "mean ratio to vLLM+\n(factor)",
    "p95_gain": "P95 gain over SGLang+\n(% points)",
}
MARKERS = "oDs^v"


def table(rows: pd.DataFrame, roles: Sequence[Role]) -> pd.DataFrame:
    """Return one row per data set and variant: Marconi's headline numbers, and their changes.

    Changes are against the paper's code: of the ratio as a factor, of the others in points.
    """
    frames = []
    for dataset, own in rows.groupby("dataset"):
        found = pd.DataFrame(
            {
                "dataset": dataset,
                "corrected": variant,
                **_headline(own[own["corrected"] == variant]),
            }
            for variant in NAMES
        )
        before = found.iloc[0]
        for metric in METRICS:
            found[f"{metric}_change"] = found[metric] - before[metric]
        found["mean_ratio_change"] = found["mean_ratio"] / before["mean_ratio"]
        frames.append(found)
    return labelled(pd.concat(frames, ignore_index=True), roles)


def _headline(runs: pd.DataFrame) -> dict[str, float]:
    exact, rounded = hit_rates(runs, COMPARED), hit_rates(runs, COMPARED, PAPER_DECIMALS)
    gains = relative_gains(exact, "marconi", "sglang_plus", PAPER_DECIMALS)
    return {
        "mean_hit_rate": float(exact["marconi"].mean()),
        "mean_hit_rate_sglang_plus": float(exact["sglang_plus"].mean()),
        "mean_hit_rate_vllm_plus": float(exact["vllm_plus"].mean()),
        "mean_ratio": float(ratios(rounded, "marconi", "vllm_plus").mean()),
        "p95_gain": float(np.percentile(gains, 95)) if len(gains) else float("nan"),
        "largest_overrun": float((runs["peak_bytes"] / runs["capacity_bytes"]).max()),
    }


def draw(rows: pd.DataFrame, paper: Mapping[str, str]) -> Figure:
    """Draw one panel per headline number from the rows of `table`, one marker per data set."""
    labels = rows.drop_duplicates("dataset")
    with paper_style():
        figure = Figure(figsize=(TEXT_WIDTH, 3.5), layout="constrained")
        grid = figure.subplots(1, len(METRICS), sharey=True)
        places = np.arange(1, len(NAMES))
        for axes, (metric, name) in zip(grid, METRICS.items(), strict=True):
            axes.axvline(metric == "mean_ratio", color="black", linewidth=0.8)
            for place, (dataset, label) in enumerate(
                zip(labels["dataset"], labels["label"], strict=True)
            ):
                changes = rows.loc[rows["dataset"] == dataset, f"{metric}_change"].to_numpy()[1:]
                axes.plot(
                    changes, places, MARKERS[place % len(MARKERS)], markersize=5, alpha=0.85,
                    color=SERIES_COLORS[place % len(SERIES_COLORS)], label=label,
                )  # fmt: skip
            axes.set_title(name)
            if metric == "mean_ratio":
                axes.set_xscale("log")
                axes.xaxis.set_major_formatter("{x:g}")
        grid[0].set_yticks(places, list(NAMES.values())[1:])
        grid[0].set_ylim(len(NAMES) - 0.5, 0.5)
        grid[0].set_ylabel("corrected")
        grid[1].set_xlabel("change against the paper's code")
        handles, names = grid[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=2)
    return figure
