"""FLOP-aware eviction values a cached node by the prefill FLOPs it saves per byte it occupies."""

from typing import NamedTuple

from marconi_core.jit import in_place
from marconi_core.models import flops
from marconi_core.models.cost import CostModel, Polynomial
from marconi_core.models.paper import Geometry, PaperModel
from marconi_core.policies.corrections import PAPER, Corrections


class Costs(NamedTuple):
    """What a replay needs to know of a model; passed to compiled code as it is.

    Attributes:
        prefill: FLOPs of a prefill.
        of_parent: FLOPs that a node's value subtracts for its parent's prefix.
        state_bytes: bytes of a node's SSM states, all layers.
        kv_bytes: bytes of a token's KVs, all layers.
    """

    prefill: Polynomial
    of_parent: Polynomial
    corrections: Corrections
    state_bytes: int
    kv_bytes: int


def costs(model: Geometry | CostModel, corrections: Corrections = PAPER) -> Costs:
    """Return the costs of a model.

    Five numbers come with the quirks of the paper's formulas, unless these are corrected: the MLP
    term subtracts the *attention* FLOPs of the parent's prefix, and the SSM state lacks its
    expansion. A cost model is taken as it is.
    """
    if not isinstance(model, Geometry):
        prefill = model.prefill
        return Costs(prefill, prefill, corrections, model.state_bytes, model.kv_bytes_per_token)
    prefill = of_parent = PaperModel(model).prefill
    if not corrections.mlp_of_parent:
        layers = model.num_attn_layers + model.num_mlp_layers
        of_parent = PaperModel(model._replace(num_attn_layers=layers, num_mlp_layers=0)).prefill
    state = model.num_ssm_layers * flops.state_bytes(model.d, model.n, corrections.expansion)
    return Costs(prefill, of_parent, corrections, state, model.kv_bytes)


@in_place
def efficiency(start: int, end: int, costs: Costs) -> float:
    """Return FLOPs saved per byte of a cached node whose edge covers tokens `start` to `end`.

    As the paper's simulator has it, with one more quirk unless it is corrected: the bytes charged
    are those of the KVs of the whole prefix, not of the node's own edge.
    """
    saved = _at(costs.prefill, end) - _at(costs.of_parent, start)
    charged = end - start if costs.corrections.own_kvs else end
    return saved / (costs.state_bytes + costs.kv_bytes * charged)


@in_place
def prefill_flops(start: int, end: int, costs: Costs) -> int:
    """Return the FLOPs of prefilling tokens `start` to `end` with the first `start` cached."""
    return _at(costs.prefill, end) - _at(costs.prefill, start)


@in_place
def _at(polynomial: Polynomial, tokens: int) -> int:
    return tokens * (polynomial.linear + polynomial.square * tokens)
