"""Grids of simulations over one trace, as tidy tables."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from marconi_core.files import atomic_path
from marconi_core.models.paper import Geometry
from marconi_core.policies import get_policy
from marconi_core.policies.corrections import PAPER, Corrections
from marconi_core.policies.tuner import ALPHA_GRID
from marconi_core.provenance import provenance_columns
from marconi_core.sim.simulation import CODE, Simulation, Simulator
from marconi_core.traces.trace import Trace


@dataclass(frozen=True)
class SweepTables:
    """Results of a sweep.

    Attributes:
        runs: one row a simulation: settings, rates, FLOPs, counts, digests, versions.
        requests: one row a request and simulation: prompt tokens, skipped tokens, nodes evicted.
        tuning: one row an alpha that a tuner tried: FLOPs saved in the window, and the choice.
    """

    runs: pd.DataFrame
    requests: pd.DataFrame
    tuning: pd.DataFrame

    def write(self, folder: str | os.PathLike[str]) -> None:
        """Write ``runs.parquet``, ``requests.parquet`` and ``tuning.parquet``."""
        for name in ("runs", "requests", "tuning"):
            with atomic_path(Path(folder) / f"{name}.parquet") as partial:
                getattr(self, name).to_parquet(partial, index=False, compression="zstd")


def sweep(
    trace: Trace,
    *,
    capacities: Sequence[float],
    policies: Sequence[str],
    model: Geometry,
    model_name: str,
    alphas: Sequence[float] = ALPHA_GRID,
    bootstrap_multiplier: int = 5,
    corrections: Corrections = PAPER,
    labels: Mapping[str, Any] | None = None,
    progress: Callable[[int, int, str], None] = lambda done, total, what: None,
) -> SweepTables:
    """Simulate every policy at every capacity; policies with a static alpha at every alpha.

    Args:
        capacities: bytes.
        corrections: what to compute otherwise than in the paper's code.
        labels: columns put in front of every row (data set, trace, rates, seed).
        progress: called before each simulation with how many are done, how many there are, and
            which is next.
    """
    labels = dict(labels or {})
    simulator = Simulator(trace, model, alphas, corrections)
    grid = list(_grid(capacities, policies, alphas))
    provenance = {"model": model_name, **provenance_columns(trace.digest(), *CODE, "sim/sweep")}
    runs: list[dict[str, Any]] = []
    requests: list[pd.DataFrame] = []
    tuning: list[dict[str, Any]] = []
    for done, (capacity, policy, alpha) in enumerate(grid):
        progress(done, len(grid), f"{policy} at {capacity:g} bytes")
        result = simulator.run(
            policy, capacity, alpha=alpha, bootstrap_multiplier=bootstrap_multiplier
        )
        runs.append(labels | _run_row(result) | provenance)
        requests.append(_request_rows(result))
        tuning.extend(labels | row for row in _tuning_rows(result))
    columns = [*labels, "capacity_bytes", "policy", "request", "alpha", "flops_saved", "chosen"]
    return SweepTables(
        runs=_storable(pd.DataFrame(runs)),
        requests=pd.concat(requests, ignore_index=True).assign(**labels),
        tuning=_storable(pd.DataFrame(tuning, columns=columns)),
    )


def _storable(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows with FLOPs as floats where one is too large for 64 bits, as of many long requests."""
    large = [
        name
        for name in map(str, rows)
        if name.startswith("flops_saved") and any(value >= 2**63 for value in rows[name])
    ]
    return rows.astype(dict.fromkeys(large, np.float64))


def _grid(
    capacities: Sequence[float], policies: Sequence[str], alphas: Sequence[float]
) -> Iterator[tuple[float, str, float | None]]:
    """Yield the simulations; static alphas first, since a tuner reuses them."""
    ordered = sorted(policies, key=lambda name: get_policy(name).alpha != "static")
    for capacity in capacities:
        for policy in ordered:
            static = get_policy(policy).alpha == "static"
            for alpha in alphas if static else (None,):
                yield capacity, policy, alpha


def _run_row(result: Simulation) -> dict[str, Any]:
    saved = result.flops_saved
    return {
        "capacity_bytes": result.capacity_bytes,
        "policy": result.policy.name,
        "alpha": np.nan if result.alpha is None else result.alpha,
        "bootstrap_multiplier": result.bootstrap_multiplier,
        "bootstrap_window": result.window,
        "tuned": result.tuning is not None,
        "requests": len(result.trace),
        "input_tokens": result.input_tokens,
        "skipped_tokens": result.skipped_tokens,
        "request_hit_rate": result.request_hit_rate,
        "token_hit_rate": result.token_hit_rate,
        "flops_saved": saved.total,
        "flops_saved_mamba": saved.mamba,
        "flops_saved_attn": saved.attn,
        "flops_saved_mlp": saved.mlp,
        "evict_calls": result.evict_calls,
        "leaf_evictions": result.leaf_evictions,
        "internal_evictions": result.internal_evictions,
        "peak_bytes": result.peak_bytes,
    }


def _request_rows(result: Simulation) -> pd.DataFrame:
    trace = result.trace
    return pd.DataFrame(
        {
            "capacity_bytes": result.capacity_bytes,
            "policy": result.policy.name,
            "alpha": np.nan if result.alpha is None else result.alpha,
            "request": np.arange(len(trace), dtype=np.int32),
            "session": trace.session,
            "turn": trace.turn,
            "input_tokens": trace.n_in.astype(np.int32),
            "output_tokens": trace.n_out.astype(np.int32),
            "skipped_tokens": result.skipped.astype(np.int32),
            "evicted_nodes": result.evicted,
        }
    )


def _tuning_rows(result: Simulation) -> Iterator[dict[str, Any]]:
    if result.tuning is None:
        return
    for alpha, saved in result.tuning.scores.items():
        yield {
            "capacity_bytes": result.capacity_bytes,
            "policy": result.policy.name,
            "request": result.tuning.request,
            "alpha": alpha,
            "flops_saved": saved,
            "chosen": alpha == result.tuning.alpha,
        }
