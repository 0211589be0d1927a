"""Figure 10: Marconi against SGLang+ on one contended trace, by prompt length and by TTFT.

TTFT with the paper's latencies, and once more with those measured here.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from marconi_core.plots.style import (
    POLICY_COLORS,
    POLICY_LINES,
    POLICY_NAMES,
    SERIES_COLORS,
    paper_style,
    two_lines,
)
from marconi_core.report.latency import PUBLISHED, Latency, measured
from marconi_core.report.roles import Role

BIN_TOKENS, LONGEST = 1_000, 32_000
PERCENTILES = (5, 50, 95)  # marked
POLICIES = ("sglang_plus", "marconi")


def table(rows: pd.DataFrame, roles: Sequence[Role]) -> pd.DataFrame:
    """Return the drawn numbers.

    Panel `a` has one row per bin of prompt lengths: Marconi's hit rate less SGLang+'s, mean over
    requests, in percentage points. Panel `b` has one row per policy and percent of requests: TTFT
    in milliseconds; panel `c` the same with measured latencies.
    """
    frames, ours = [], measured()
    for role in roles:
        own = rows[rows["dataset"] == role.dataset]
        if own.empty:
            continue
        panels = {"a": _by_length(own), "b": _by_ttft(own, PUBLISHED), "c": _by_ttft(own, ours)}
        for panel, found in panels.items():
            names = {"dataset": role.dataset, "label": role.label, "panel": panel}
            frames.append(pd.DataFrame(names, index=found.index).join(found))
    return pd.concat(frames, ignore_index=True)


def _by_length(rows: pd.DataFrame) -> pd.DataFrame:
    skipped = rows.pivot(index="request", columns="policy", values="skipped_tokens")
    tokens = rows[rows["policy"] == "marconi"].set_index("request")["input_tokens"]
    gain = 100 * (skipped["marconi"] - skipped["sglang_plus"]) / tokens
    bins = (tokens // BIN_TOKENS * BIN_TOKENS).rename("from_tokens")
    return gain[tokens < LONGEST].groupby(bins).agg(points="mean", requests="size").reset_index()


def _by_ttft(rows: pd.DataFrame, latency: Latency) -> pd.DataFrame:
    times = rows.assign(ttft_ms=latency.ms(rows["input_tokens"], rows["skipped_tokens"]))
    shares = np.arange(101)
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "latency": latency.label,
                    "policy": policy,
                    "percent_of_requests": shares,
                    "ttft_ms": np.percentile(
                        times.loc[times["policy"] == policy, "ttft_ms"], shares
                    ),
                }
            )
            for policy in POLICIES
        ],
        ignore_index=True,
    )


def draw(rows: pd.DataFrame, paper: Mapping[str, str]) -> Figure:
    """Draw three panels per data set from the rows of `table`, one above the other."""
    names = rows["dataset"].unique()
    with paper_style():
        figure = Figure(figsize=(0.6 + 3.2 * len(names), 6.8), layout="constrained")
        grid = figure.subplots(3, len(names), squeeze=False)
        for (above, published, ours), name in zip(grid.T, names, strict=True):
            own = rows[rows["dataset"] == name]
            above.set_title(two_lines(own["label"].iloc[0]))
            _draw_lengths(above, own[own["panel"] == "a"])
            _draw_ttft(published, own[own["panel"] == "b"], paper)
            _draw_ttft(ours, own[own["panel"] == "c"], {})
        grid[0, 0].set_ylabel("hit rate, Marconi less\nSGLang+ (% points)")
        for axes in grid[1:, 0]:
            axes.set_ylabel("requests (%)")
    return figure


def _draw_lengths(axes: Axes, bins: pd.DataFrame) -> None:
    axes.bar(
        bins["from_tokens"] / 1e3, bins["points"], BIN_TOKENS / 1e3 * 0.9, align="edge",
        color=[SERIES_COLORS[0] if points >= 0 else SERIES_COLORS[1] for points in bins["points"]],
    )  # fmt: skip
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xlim(0, LONGEST / 1e3)
    axes.set_xlabel("prompt (thousand tokens)")


def _draw_ttft(axes: Axes, rows: pd.DataFrame, paper: Mapping[str, str]) -> None:
    for policy in POLICIES:
        own = rows[rows["policy"] == policy]
        axes.plot(
            own["ttft_ms"], own["percent_of_requests"], label=POLICY_NAMES[policy],
            color=POLICY_COLORS[policy], linestyle=POLICY_LINES[policy],
        )  # fmt: skip
    times = rows.pivot(index="percent_of_requests", columns="policy", values="ttft_ms")
    lines = ["below SGLang+ (paper):" if paper else "below SGLang+:"]
    for percentile in PERCENTILES:
        before, after = (float(times[policy][percentile]) for policy in POLICIES)
        printed = f" ({paper[f'fig10-p{percentile}']} %)" if paper else ""
        lines.append(f"P{percentile}: {100 * (before - after) / before:.1f} %{printed}")
    axes.text(
        0.98, 0.04, "\n".join(lines), transform=axes.transAxes, ha="right", va="bottom", fontsize=7
    )
    axes.set_ylim(0, 101)
    axes.set_xlim(0)
    axes.set_xlabel(f"TTFT (ms), {rows['latency'].iloc[0]}")
    axes.legend(loc="center right")
