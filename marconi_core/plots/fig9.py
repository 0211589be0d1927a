"""Figure 9: P95 time to first token relative to no prefix cache, as CDF over configurations.

Once with the paper's latencies, which its claims are about, and once with those measured here.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from marconi_core.plots.panels import grid
from marconi_core.plots.style import (
    PAPER_COLOR,
    POLICY_COLORS,
    POLICY_LINES,
    POLICY_NAMES,
    paper_style,
)
from marconi_core.report.latency import PUBLISHED, Latency
from marconi_core.report.metrics import VANILLA, p95_ttft
from marconi_core.report.roles import Role

POLICIES = ("marconi", "sglang_plus", "vllm_plus")


def table(
    requests: pd.DataFrame, role: Role, paper: Mapping[str, str], latencies: Sequence[Latency]
) -> pd.DataFrame:
    """Return the drawn numbers: one row per source of latencies, configuration and policy.

    Args:
        requests: request rows of all data sets.
        role: the data set to draw.
        paper: the paper's largest reduction under no cache, as printed, by the paper's data set.
        latencies: one panel each.
    """
    own = requests[requests["dataset"] == role.dataset]
    parts = []
    for latency in latencies:
        rows = p95_ttft(own, POLICIES, latency).melt(
            id_vars=[VANILLA], var_name="policy", value_name="p95_ttft_ms", ignore_index=False
        )
        rows = rows.rename(columns={VANILLA: "vanilla_p95_ttft_ms"}).reset_index()
        rows["relative_percent"] = 100 * rows["p95_ttft_ms"] / rows["vanilla_p95_ttft_ms"]
        rows["label"], rows["latency"] = role.label, latency.label
        known = paper.get(role.paper_dataset or "", "") if latency is PUBLISHED else ""
        rows["paper_reduction_percent"] = known
        parts.append(rows.sort_values(["policy", "relative_percent"]))
    return pd.concat(parts, ignore_index=True)


def draw(rows: pd.DataFrame) -> Figure:
    """Draw a panel per source of latencies: one step line per policy, and the paper's best case."""
    latencies = rows["latency"].unique()
    with paper_style():
        figure, panels = grid(len(latencies), (3.2, 3.1), sharex=True, sharey=True)
        for (axes,), latency in zip(panels, latencies, strict=True):
            _lines(axes, rows[rows["latency"] == latency])
            axes.set_title(latency)
        first = panels[0][0]
        first.set_ylabel("share of configurations")
        first.set_ylim(0, 1.02)
        figure.suptitle(rows["label"].iloc[0])
        figure.legend(*first.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def _lines(axes: Axes, rows: pd.DataFrame) -> None:
    for policy in POLICIES:
        relative = np.sort(rows.loc[rows["policy"] == policy, "relative_percent"])
        share = np.arange(1, len(relative) + 1) / len(relative)
        axes.step(
            np.concatenate([relative[:1], relative]), np.concatenate([[0], share]),
            where="post", color=POLICY_COLORS[policy], linestyle=POLICY_LINES[policy],
            label=POLICY_NAMES[policy],
        )  # fmt: skip
    reduction = rows["paper_reduction_percent"].iloc[0]
    if reduction:
        axes.axvline(
            100 - float(reduction), color=PAPER_COLOR, linewidth=1,
            label=f"paper's best ({reduction} % less)",
        )  # fmt: skip
    axes.set_xlabel("P95 TTFT (% of no prefix cache)")
