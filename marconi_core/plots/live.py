"""Replays on live servers: token hit rate beside the prediction, and time to first token."""

from collections.abc import Sequence
from textwrap import fill

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from marconi_core.plots.panels import TEXT_WIDTH
from marconi_core.plots.style import POLICY_COLORS, paper_style
from marconi_core.serving.recordings import PLACE, name_of, recorded_as

STOCK_COLOR, ADMISSION_COLOR, NONE_COLOR = "#E69F00", "#56B4E9", "#999999"
COLORS = {
    "no_cache": NONE_COLOR,
    "no_buffer": STOCK_COLOR,
    "extra_buffer": STOCK_COLOR,
    "admission_only": ADMISSION_COLOR,
    "seglen": "#009E73",
    "marconi": POLICY_COLORS["marconi"],
}
NAMES = {
    "no_cache": "no prefix cache",
    "no_buffer": "stock, no_buffer",
    "extra_buffer": "stock, extra_buffer",
    "admission_only": "admission only",
    "seglen": "SegLen",
    "marconi": "Marconi",
}
PREDICTED = ("predicted_token_hit_rate", "predicted_ttft_p95_ms")  # left panel, right panel
ROW_INCHES = 0.22
TITLE_CHARACTERS = 72  # of a line across both panels


def draw(replays: pd.DataFrame) -> Figure:
    """Draw a row of two panels per place (`PLACE`), from `report.live.table`."""
    groups = [group for _, group in replays.groupby(PLACE, sort=False)]
    firsts = [group.iloc[0] for group in groups]
    said = [_words(row) for row in firsts]
    common = [word for word in said[0] if all(word in words for words in said)] if said else []
    titles = [_title(row, common) for row in firsts]
    heights = [len(g) + 1.8 + 0.8 * t.count("\n") for g, t in zip(groups, titles, strict=True)] or [
        3
    ]
    with paper_style():
        figure = Figure(figsize=(TEXT_WIDTH, 0.7 + ROW_INCHES * sum(heights)), layout="constrained")
        if not groups:
            figure.text(0.5, 0.5, "no replay has been recorded yet", ha="center", va="center")
            return figure
        figure.suptitle(fill(", ".join(common), TITLE_CHARACTERS), fontsize="medium")
        panels = figure.subplots(len(groups), 2, squeeze=False, sharex="col", height_ratios=heights)
        for (left, right), title, group in zip(panels, titles, groups, strict=True):
            left.set_title(title, loc="left")
            _hits(left, group)
            _times(right, group)
        panels[-1][0].set_xlabel("token hit rate (%)")
        panels[-1][1].set_xlabel("time to first token (ms)\nP5 to P99, P50 (bar), P95 (dot)")
        marks = [
            (handle, label)
            for axes, column in zip(panels[0], PREDICTED, strict=True)
            if replays[column].notna().any()
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
        ]
        if marks:
            # outside: within the panel its mark would look like one more prediction
            handles, labels = zip(*marks, strict=True)
            figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return figure


def _words(row: pd.Series) -> list[str]:
    """Return what there is to say of server and load."""
    return [*row["server"].split(", "), *row["load"].split(", "), f"{row['kv_tokens']:,} KV tokens"]


def _title(row: pd.Series, common: Sequence[str]) -> str:
    """Return what is said above a panel, where what is common stands above all."""
    data = "" if row["data"] == row["trace"] else f", {row['data']}"
    own = [word for word in _words(row) if word not in common]
    lines = (
        f"{row['trace']}{data}: {row['requests']:,} requests",
        ", ".join([*own, f"{row['states']:,} states"]) + recorded_as(row["occasion"]),
    )
    return "\n".join(fill(line, TITLE_CHARACTERS) for line in lines)


def label_of(variant: str) -> str:
    """Return a variant's name for people."""
    name, _, options = variant.partition(" ")
    base, _, alpha = name.partition("@")
    family = base if base in NAMES else base.removesuffix("_no_buffer")
    suffix = "" if base in NAMES else ", no_buffer"
    if family in ("marconi", "seglen"):
        suffix += f", alpha {alpha}" if alpha else ", tuned"
    return " ".join(filter(None, (NAMES[family] + suffix, options)))


def color_of(variant: str) -> str:
    """Return the colour of a variant's family."""
    base = name_of(variant)
    return COLORS[base if base in COLORS else base.removesuffix("_no_buffer")]


def _hits(axes: Axes, group: pd.DataFrame) -> None:
    positions = range(len(group))
    colors = [color_of(variant) for variant in group["variant"]]
    axes.barh(positions, 100 * group["token_hit_rate"], color=colors, height=0.65)
    axes.plot(
        100 * group["predicted_token_hit_rate"], positions, linestyle="", marker="|",
        markersize=9, markeredgewidth=2, color="black", label="predicted",
    )  # fmt: skip
    axes.set_yticks(positions, labels=[label_of(variant) for variant in group["variant"]])
    axes.set_ylim(len(group) - 0.4, -0.6)
    axes.set_xlim(0, 100)


def _times(axes: Axes, group: pd.DataFrame) -> None:
    positions = range(len(group))
    colors = [color_of(variant) for variant in group["variant"]]
    axes.hlines(positions, group["ttft_p5_ms"], group["ttft_p99_ms"], colors=colors, linewidth=1.5)
    axes.scatter(group["ttft_p50_ms"], positions, color=colors, marker="|", s=60, linewidths=2)
    axes.scatter(group["ttft_p95_ms"], positions, color=colors, s=22, zorder=3)
    axes.plot(
        group["predicted_ttft_p95_ms"], positions, linestyle="", marker="o", markersize=6,
        fillstyle="none", color="black", label="predicted P95",
    )  # fmt: skip
    axes.set_yticks(positions, labels=[])
    axes.set_ylim(len(group) - 0.4, -0.6)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
