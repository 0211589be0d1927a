"""Marconi's tuned alpha beside the best static one: what tuning gains, and how the best alpha moves."""

from collections.abc import Iterable, Mapping, Sequence
from os import PathLike

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from marconi_core.plots.panels import grid, labelled
from marconi_core.plots.style import POLICY_COLORS, paper_style, two_lines
from marconi_core.report.metrics import CONFIGURATION
from marconi_core.report.roles import Role

PARTS = 10  # of a trace, by requests
TUNED, STATIC = "marconi", "oracle"


def rows(
    runs: Iterable[str | PathLike[str]], requests: Iterable[str | PathLike[str]]
) -> pd.DataFrame:
    """Return one row per configuration and part of the trace, from the result tables of the traces.

    Columns: the tuned alpha in use (0 before it was tuned), the static alpha with the highest token
    hit rate in that part (of equals the smallest), and hit rates in percent: tuned, with alpha 0,
    and with the static alpha that is best over the whole trace.
    """
    frames = [
        _of_trace(pd.read_parquet(one), _tokens(other))
        for one, other in zip(runs, requests, strict=True)
    ]
    return pd.concat(frames, ignore_index=True)


def _tokens(path: str | PathLike[str]) -> pd.DataFrame:
    """Return prompt tokens and tokens served by configuration, policy, alpha and part."""
    wanted = ["policy", "alpha", "request", "input_tokens", "skipped_tokens", *CONFIGURATION]
    table = pd.read_parquet(path, columns=wanted, filters=[("policy", "in", [TUNED, STATIC])])
    last = table["request"].max()
    table["part"] = table["request"] * PARTS // (last + 1)
    keys = [*CONFIGURATION, "policy", "alpha", "part"]
    return table.groupby(keys)[["input_tokens", "skipped_tokens"]].sum().reset_index()


def _of_trace(runs: pd.DataFrame, tokens: pd.DataFrame) -> pd.DataFrame:
    found = []
    for configuration, own in tokens.groupby(CONFIGURATION):
        run = runs[(runs["policy"] == TUNED) & (runs["capacity_bytes"] == configuration[-1])].iloc[
            0
        ]
        static = own[own["policy"] == STATIC].pivot(
            index="part", columns="alpha", values="skipped_tokens"
        )
        tuned = own[own["policy"] == TUNED].set_index("part")
        tuned_from = run["bootstrap_window"] / run["requests"] * PARTS if run["tuned"] else PARTS
        best = static.sum().idxmax()
        served = pd.DataFrame(
            {"tuned": tuned["skipped_tokens"], "zero": static[0.0], "best": static[best]}
        )
        rates = 100 * served.div(tuned["input_tokens"], axis=0)
        found.append(
            pd.DataFrame(
                {
                    **dict(zip(CONFIGURATION, configuration, strict=True)),
                    "part": static.index,
                    "tuned_alpha": np.where(static.index >= tuned_from, run["alpha"], 0.0),
                    "best_alpha_of_part": static.idxmax(axis=1).to_numpy(),
                    "best_alpha": best,
                    "prompt_tokens": tuned["input_tokens"].to_numpy(),
                    **{f"{name}_percent": rates[name].to_numpy() for name in rates},
                }
            )
        )
    return pd.concat(found, ignore_index=True)


def table(parts: pd.DataFrame, roles: Sequence[Role]) -> pd.DataFrame:
    """Return `rows` with the data sets' labels."""
    return labelled(parts, roles)


def draw(parts: pd.DataFrame, paper: Mapping[str, str]) -> Figure:
    """Draw two panels per data set from the rows of `table`, one above the other."""
    names = parts["dataset"].unique()
    with paper_style():
        figure, panels = grid(len(names), (2.4, 4.0), parts=2)
        for above, below in panels[1:]:
            above.sharey(panels[0][0])
            below.sharey(panels[0][1])
        for (above, below), name in zip(panels, names, strict=True):
            own = parts[parts["dataset"] == name]
            above.set_title(two_lines(own["label"].iloc[0]))
            _draw_gains(above, own)
            _draw_alphas(below, own)
        above, below = panels[0]
        above.set_ylabel("hit rate against\nalpha 0 (% points)")
        below.set_ylabel("alpha (median,\nquartiles)")
        entries = [axes.get_legend_handles_labels() for axes in (above, below)]
        handles, labels = (first + second for first, second in zip(*entries, strict=True))
        figure.legend(handles, labels, loc="outside lower center", ncols=len(handles))
    return figure


def gains(parts: pd.DataFrame) -> pd.DataFrame:
    """Return token hit rates against alpha 0, in points: one row per configuration, tuned and best."""
    names = ["tuned_percent", "zero_percent", "best_percent"]
    tokens = parts[names].mul(parts["prompt_tokens"], axis=0).assign(all=parts["prompt_tokens"])
    sums = tokens.groupby([parts[key] for key in CONFIGURATION]).sum()
    rates = sums[names].div(sums["all"], axis=0)
    return pd.DataFrame(
        {
            "tuned": rates["tuned_percent"] - rates["zero_percent"],
            "best": rates["best_percent"] - rates["zero_percent"],
        }
    )


def _draw_gains(axes: Axes, parts: pd.DataFrame) -> None:
    sorted_gains = gains(parts).sort_values(["best", "tuned"])
    places = np.arange(len(sorted_gains))
    axes.axhline(0, color="black", linewidth=0.8)
    axes.plot(places, sorted_gains["best"], color=POLICY_COLORS[STATIC], label="best static alpha")
    axes.plot(
        places, sorted_gains["tuned"], "o", color=POLICY_COLORS[TUNED], markersize=3, label="tuned"
    )
    worse, better = (sorted_gains["tuned"] < -0.005).sum(), (sorted_gains["tuned"] > 0.005).sum()
    axes.set_xlabel(f"configurations\n(tuning hurts {worse}, helps {better})")
    axes.set_xticks([])


def _draw_alphas(axes: Axes, parts: pd.DataFrame) -> None:
    share = (np.arange(PARTS) + 0.5) * 100 / PARTS
    for column, label, color in (
        ("best_alpha_of_part", "best static alpha of this part", POLICY_COLORS[STATIC]),
        ("tuned_alpha", "tuned, in use", POLICY_COLORS[TUNED]),
    ):
        groups = parts.groupby("part")[column]
        low, middle, high = (groups.quantile(q).reindex(range(PARTS)) for q in (0.25, 0.5, 0.75))
        axes.plot(share, middle, color=color, label=label)
        axes.fill_between(share, low, high, color=color, alpha=0.2, linewidth=0)
    axes.set_xlim(0, 100)
    axes.set_xlabel("requests of the trace (%)")
