"""FLOP-aware eviction: score = normalised recency + alpha * normalised FLOPs saved per byte."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from marconi_core.jit import compiled
from marconi_core.models import flops
from marconi_core.models.paper import Geometry

attention_flops = compiled(flops.attention_flops)
mlp_flops = compiled(flops.mlp_flops)
mamba_flops = compiled(flops.mamba_flops)
state_bytes = compiled(flops.state_bytes)
kv_bytes = compiled(flops.kv_bytes)


@compiled
def efficiency(start: int, end: int, geometry: Geometry) -> float:
    """Return FLOPs saved per byte of a cached node whose edge covers tokens `start` to `end`.

    As the paper's simulator has it, with two quirks that its published numbers contain: the MLP
    term subtracts the *attention* FLOPs of the parent's prefix, and the bytes charged are those of
    the KVs of the whole prefix, not of the node's own edge.
    """
    d, n = geometry.d, geometry.n
    attention_of_parent = attention_flops(start, d)
    saved = (
        geometry.num_ssm_layers * mamba_flops(end - start, d, n)
        + geometry.num_attn_layers * (attention_flops(end, d) - attention_of_parent)
        + geometry.num_mlp_layers * (mlp_flops(end, d) - attention_of_parent)
    )
    size = (
        geometry.num_ssm_layers * state_bytes(d, n) + geometry.num_attn_layers * kv_bytes(d) * end
    )
    return saved / size


@compiled
def utilities(
    efficiencies: NDArray[np.float64],
    timestamps: NDArray[np.int64],
    clock: int,
    alpha: float,
    out: NDArray[np.float64],
) -> Any:
    """Score all eviction candidates into `out` and return the lowest score: evict that one.

    Recency is 1 / (clock - timestamp). Both terms are min-max normalised over the candidates; a
    term that is the same for all counts as 1. No fused multiply-add: each operation rounds.

    Args:
        efficiencies: float64[candidates], at least one.
        timestamps: int64[candidates], each before `clock`.
    """
    low, high = efficiencies[0], efficiencies[0]
    oldest, newest = timestamps[0], timestamps[0]
    for i in range(len(efficiencies)):
        low, high = min(low, efficiencies[i]), max(high, efficiencies[i])
        oldest, newest = min(oldest, timestamps[i]), max(newest, timestamps[i])
    stalest, freshest = 1 / (clock - oldest), 1 / (clock - newest)
    efficiency_range, recency_range = high - low, freshest - stalest
    for i in range(len(efficiencies)):
        e = (efficiencies[i] - low) / efficiency_range if efficiency_range > 0 else 1.0
        r = (1 / (clock - timestamps[i]) - stalest) / recency_range if recency_range > 0 else 1.0
        out[i] = alpha * e + r
    lowest = out[0]
    for i in range(len(out)):
        lowest = min(lowest, out[i])
    return lowest
