"""The paper's summary numbers, from the result tables of the simulator.

A configuration is one cache size on one trace; policies are compared within configurations. Rates
and gains are in percent. The paper computes Figure 7 from hit rates, and Figure 8 from gains, that
its logs had rounded to two decimals; `decimals=2` does the same, exact values come without it.
"""

from collections.abc import Iterable
from os import PathLike
from pathlib import Path

import numpy as np
import pandas as pd

from marconi_core.errors import DataError
from marconi_core.report.latency import PUBLISHED, Latency

CONFIGURATION = ["dataset", "trace", "capacity_bytes"]
PAPER_DECIMALS = 2
VANILLA = "vanilla"  # no prefix cache: every prompt is computed in full


def read_tables(
    paths: Iterable[str | PathLike[str]], policies: Iterable[str] | None = None
) -> pd.DataFrame:
    """Return the rows of several parquet tables as one frame.

    Args:
        paths: the tables.
        policies: rows of these only; a grid has ten million requests, most of them of static alphas.

    Raises:
        DataError: there is no table.
    """
    wanted = None if policies is None else [("policy", "in", list(policies))]
    frames = [pd.read_parquet(path, filters=wanted) for path in paths]
    if not frames:
        raise DataError("no result tables: no data set of the configuration could be had")
    return pd.concat(frames, ignore_index=True)


def read_by_folder(paths: Iterable[str | PathLike[str]]) -> dict[str, pd.DataFrame]:
    """Return the rows of parquet tables, those in one folder as one frame, by the folder's name."""
    by_folder: dict[str, list[str | PathLike[str]]] = {}
    for path in paths:
        by_folder.setdefault(Path(path).parent.name, []).append(path)
    return {name: read_tables(files) for name, files in by_folder.items()}


def hit_rates(
    runs: pd.DataFrame, policies: Iterable[str], decimals: int | None = None
) -> pd.DataFrame:
    """Return token hit rates in percent: one row per configuration, one column per policy.

    Args:
        runs: result rows; policies that are not asked for are ignored.
        policies: policies without a static alpha (one run per configuration).
        decimals: round the percentages first, as the paper's logs did.
    """
    wanted = runs[runs["policy"].isin(list(policies))]
    rates = 100 * wanted.pivot(index=CONFIGURATION, columns="policy", values="token_hit_rate")
    return rates if decimals is None else rates.round(decimals)


def ratios(rates: pd.DataFrame, policy: str, baseline: str) -> pd.Series:
    """Return policy / baseline per configuration; those with a baseline of zero are left out."""
    usable = rates[rates[baseline] > 0]
    return usable[policy] / usable[baseline]


def relative_gains(
    rates: pd.DataFrame, policy: str, baseline: str, decimals: int | None = None
) -> pd.Series:
    """Return 100 * (policy - baseline) / baseline; baselines of zero are left out."""
    usable = rates[rates[baseline] > 0]
    gains = 100 * (usable[policy] - usable[baseline]) / usable[baseline]
    return gains if decimals is None else gains.round(decimals)


def p95_ttft(
    requests: pd.DataFrame, policies: Iterable[str], latency: Latency = PUBLISHED
) -> pd.DataFrame:
    """Return the P95 over requests of the time to first token in milliseconds.

    Args:
        requests: one row per request, configuration and policy, with `input_tokens` and
            `skipped_tokens`.
        policies: policies without a static alpha.
        latency: of the server.

    Returns:
        One row per configuration, one column per policy, and `vanilla` for no prefix cache.
    """
    wanted = requests[requests["policy"].isin(list(policies))]
    prompts = wanted["input_tokens"]
    times = wanted.assign(
        ttft=latency.ms(prompts, wanted["skipped_tokens"]), vanilla=latency.ms(prompts, 0)
    )
    groups = times.groupby([*CONFIGURATION, "policy"], sort=True)[["ttft", VANILLA]]
    p95 = groups.quantile(0.95)
    table = p95["ttft"].unstack("policy")
    table[VANILLA] = p95[VANILLA].groupby(CONFIGURATION).first()
    return table


def largest_ttft_reduction(p95: pd.DataFrame, policy: str, baseline: str) -> tuple[float, float]:
    """Return by how much `policy` lowers the P95 TTFT at most, against `baseline`.

    The paper's "up to": the largest difference of the two, each relative to `vanilla`, over all
    configurations.

    Returns:
        The difference in percentage points of vanilla, and in milliseconds in that configuration.
    """
    milliseconds = (p95[baseline] - p95[policy]).to_numpy()
    points = 100 * milliseconds / p95[VANILLA].to_numpy()
    best = int(np.argmax(points))
    return float(points[best]), float(milliseconds[best])
