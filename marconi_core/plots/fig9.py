"""Figure 9: P95 time to first token relative to no prefix cache, as CDF over configurations."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from marconi_core.plots.style import (
    PAPER_COLOR,
    POLICY_COLORS,
    POLICY_LINES,
    POLICY_NAMES,
    paper_style,
)
from marconi_core.report.metrics import VANILLA, p95_ttft
from marconi_core.report.roles import Role

POLICIES = ("marconi", "sglang_plus", "vllm_plus")


def table(requests: pd.DataFrame, role: Role, paper: Mapping[str, str]) -> pd.DataFrame:
    """Return the drawn numbers: one row per configuration and policy.

    Args:
        requests: request rows of all data sets.
        role: the data set to draw.
        paper: the paper's largest reduction under no cache, as printed, by the paper's data set.
    """
    own = requests[requests["dataset"] == role.dataset]
    p95 = p95_ttft(own, POLICIES)
    rows = p95.melt(
        id_vars=[VANILLA], var_name="policy", value_name="p95_ttft_ms", ignore_index=False
    ).rename(columns={VANILLA: "vanilla_p95_ttft_ms"})
    rows["relative_percent"] = 100 * rows["p95_ttft_ms"] / rows["vanilla_p95_ttft_ms"]
    rows["label"] = role.label
    rows["paper_reduction_percent"] = paper.get(role.paper_dataset or "", "")
    return rows.reset_index().sort_values(["policy", "relative_percent"], ignore_index=True)


def draw(rows: pd.DataFrame) -> Figure:
    """Draw one step line per policy from the rows of `table`, and the paper's best case."""
    with paper_style():
        figure = Figure(figsize=(3.4, 3.0), layout="constrained")
        axes = figure.subplots()
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
        axes.set_ylabel("share of configurations")
        axes.set_ylim(0, 1.02)
        axes.set_title(rows["label"].iloc[0])
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure
