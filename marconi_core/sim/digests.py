"""The comparable form of a simulation: one JSON object with counts, rates, exact FLOPs and digests.

Two implementations of the paper's simulator agree iff these objects do. Each digest is the SHA-256
of compact JSON; see `summary` for what is listed.
"""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from marconi_core.models.cost import CostModel
from marconi_core.models.paper import Geometry
from marconi_core.sim import blocks, radix_tree
from marconi_core.sim.records import INTERNAL, CachedNode
from marconi_core.sim.simulation import Simulation


def cached_nodes(simulation: Simulation) -> Iterator[CachedNode]:
    """Yield the final cache in preorder, children in the order of the reference's dicts."""
    if simulation.policy.admission == "blocks":
        return blocks.cached_nodes(simulation.tree, simulation.cached, simulation.block)
    return radix_tree.cached_nodes(simulation.tree, simulation.cached)


def summary(simulation: Simulation, trace_name: str, trace_sha256: str) -> dict[str, Any]:
    """Return the object that ``marconi simulate --json`` prints.

    The digests cover, in order: ``[[hit 0/1, input tokens, skipped tokens], ...]``,
    ``[skipped tokens, ...]``, ``[[requests seen, "l" leaf or "i" internal, edge tokens, timestamp],
    ...]`` of evicted nodes, and ``[[level, edge's tokens, timestamp, children], ...]`` of the final
    cache.

    Args:
        simulation: one that was run with its eviction log.
    """
    saved = simulation.flops_saved
    skipped = simulation.skipped.tolist()
    inputs = simulation.trace.n_in.tolist()
    log = simulation.evictions
    kinds = ["i" if kind == INTERNAL else "l" for kind in log.kind]
    evictions = zip(
        log.request.tolist(), kinds, log.tokens.tolist(), log.timestamp.tolist(), strict=True
    )
    result: dict[str, Any] = {
        "trace": trace_name,
        "trace_sha256": trace_sha256,
        "model": _described(simulation.model),
        "policy": simulation.policy.name,
        "alpha": simulation.alpha if simulation.policy.alpha == "static" else None,
        "capacity_bytes": simulation.capacity_bytes,
        "bootstrap_multiplier": simulation.bootstrap_multiplier,
        "requests": len(skipped),
        "input_tokens": simulation.input_tokens,
        "skipped_tokens": simulation.skipped_tokens,
        "request_hit_rate": simulation.request_hit_rate,
        "token_hit_rate": simulation.token_hit_rate,
        "flops_saved": saved.total,
        "flops_saved_mamba": saved.mamba,
        "flops_saved_attn": saved.attn,
        "flops_saved_mlp": saved.mlp,
        "request_history_sha256": _digest(
            [[int(s > 0), i, s] for i, s in zip(inputs, skipped, strict=True)]
        ),
        "skipped_sha256": _digest(skipped),
        "evictions_sha256": _digest(list(evictions)),
        "final_tree_sha256": _digest(list(cached_nodes(simulation))),
        "final_logical_ts": simulation.clock,
        "evict_calls": simulation.evict_calls,
        "leaf_evictions": simulation.leaf_evictions,
        "intermediate_evictions": simulation.internal_evictions,
    }
    if simulation.policy.alpha == "tuned":
        result["final_alpha"] = simulation.alpha
        result["bootstrap_window_size"] = simulation.window or None
    return result


def _described(model: Geometry | CostModel) -> dict[str, int]:
    if isinstance(model, Geometry):
        return model._asdict()
    bytes_of = {"state_bytes": model.state_bytes, "kv_bytes_per_token": model.kv_bytes_per_token}
    return bytes_of | model.prefill._asdict()


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, separators=(",", ":")).encode()).hexdigest()
