"""FLOP-aware eviction values a cached node by the prefill FLOPs it saves per byte it occupies."""

from typing import NamedTuple

from marconi_core.jit import compiled
from marconi_core.models import flops
from marconi_core.models.paper import Geometry
from marconi_core.policies.corrections import PAPER, Corrections

attention_flops = compiled(flops.attention_flops)
mlp_flops = compiled(flops.mlp_flops)
mamba_flops = compiled(flops.mamba_flops)


class Costs(NamedTuple):
    """What a replay needs to know of a model; passed to compiled code as it is.

    Attributes:
        state_bytes: bytes of a node's SSM states, all layers.
        kv_bytes: bytes of a token's KVs, all layers.
    """

    geometry: Geometry
    corrections: Corrections
    state_bytes: int
    kv_bytes: int


def costs(geometry: Geometry, corrections: Corrections = PAPER) -> Costs:
    """Return the costs of a model."""
    state = flops.state_bytes(geometry.d, geometry.n, corrections.expansion)
    return Costs(geometry, corrections, geometry.num_ssm_layers * state, geometry.kv_bytes)


@compiled
def efficiency(start: int, end: int, costs: Costs) -> float:
    """Return FLOPs saved per byte of a cached node whose edge covers tokens `start` to `end`.

    As the paper's simulator has it, with two quirks unless they are corrected: the MLP term
    subtracts the *attention* FLOPs of the parent's prefix, and the bytes charged are those of the
    KVs of the whole prefix, not of the node's own edge.
    """
    geometry = costs.geometry
    d, n = geometry.d, geometry.n
    attention_of_parent = attention_flops(start, d)
    mlp_of_parent = mlp_flops(start, d) if costs.corrections.mlp_of_parent else attention_of_parent
    saved = (
        geometry.num_ssm_layers * mamba_flops(end - start, d, n)
        + geometry.num_attn_layers * (attention_flops(end, d) - attention_of_parent)
        + geometry.num_mlp_layers * (mlp_flops(end, d) - mlp_of_parent)
    )
    charged = end - start if costs.corrections.own_kvs else end
    return saved / (costs.state_bytes + costs.kv_bytes * charged)


@compiled
def prefill_flops(start: int, end: int, costs: Costs) -> int:
    """Return the FLOPs of prefilling tokens `start` to `end` with the first `start` cached."""
    geometry = costs.geometry
    d, n = geometry.d, geometry.n
    return (
        geometry.num_ssm_layers * mamba_flops(end - start, d, n)
        + geometry.num_attn_layers * (attention_flops(end, d) - attention_flops(start, d))
        + geometry.num_mlp_layers * mlp_flops(end - start, d)
    )
