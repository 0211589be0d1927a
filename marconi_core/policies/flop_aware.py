"""FLOP-aware eviction values a cached node by the prefill FLOPs it saves per byte it occupies."""

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
