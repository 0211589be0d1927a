"""The paper's description of a hybrid model: five integers."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from marconi_core.models import flops
from marconi_core.models.cost import CostModel, Polynomial, Tokens


class Geometry(NamedTuple):
    """What the paper's formulas know of a model; passed to compiled code as it is.

    Attributes:
        num_ssm_layers: Mamba layers.
        num_attn_layers: attention layers.
        num_mlp_layers: MLP layers.
        d: model width.
        n: SSM state dimension.
    """

    num_ssm_layers: int
    num_attn_layers: int
    num_mlp_layers: int
    d: int
    n: int

    @property
    def state_bytes(self) -> int:
        """Bytes of one cached node's SSM states, all layers."""
        return self.num_ssm_layers * flops.state_bytes(self.d, self.n)

    @property
    def kv_bytes(self) -> int:
        """Bytes of one token's KVs, all layers."""
        return self.num_attn_layers * flops.kv_bytes(self.d)


TRANSFORMER_7B = Geometry(0, 32, 32, d=4096, n=128)
"""The Transformer of the same width with which the paper compares its hybrid model."""


def blockwise_bytes(geometry: Geometry, tokens: Tokens, block: int) -> Tokens:
    """Return the bytes of a cached sequence with a state at every block, the last one begun."""
    return -(-tokens // block) * geometry.state_bytes + tokens * geometry.kv_bytes


@dataclass(frozen=True)
class PaperModel(CostModel):
    """The paper's formulas (`models.flops`) as a cost model.

    `flops_between` is the plain difference of two prefills; the quirks of the paper's simulator in
    scoring a node are in `policies.flop_aware` and not here.

    Attributes:
        geometry: the five numbers.
    """

    geometry: Geometry

    @property
    def kv_bytes_per_token(self) -> int:
        return self.geometry.kv_bytes

    @property
    def state_bytes(self) -> int:
        return self.geometry.state_bytes

    @cached_property
    def prefill_by_kind(self) -> Mapping[str, Polynomial]:
        layers_ssm, layers_attn, layers_mlp, d, n = self.geometry
        mamba = [layers_ssm * flops.mamba_flops(tokens, d, n) for tokens in (1, 2)]
        attention = [layers_attn * flops.attention_flops(tokens, d) for tokens in (1, 2)]
        mlp = [layers_mlp * flops.mlp_flops(tokens, d) for tokens in (1, 2)]
        return {
            "mamba": Polynomial.through(*mamba),
            "attention": Polynomial.through(*attention),
            "mlp": Polynomial.through(*mlp),
        }


def cost_model(model: Geometry | CostModel) -> CostModel:
    """Return the cost model of five numbers, or the cost model that is given."""
    return PaperModel(model) if isinstance(model, Geometry) else model


class FlopsSaved(NamedTuple):
    """FLOPs of prefill that hits made unnecessary, per layer kind; exact integers.

    Attributes:
        mamba: recurrent layers of any kind.
        attn: attention layers.
        mlp: MLP layers, experts among them.
    """

    mamba: int
    attn: int
    mlp: int

    @property
    def total(self) -> int:
        return self.mamba + self.attn + self.mlp


_NOT_RECURRENT = {"attention": "attn", "mlp": "mlp", "moe": "mlp"}


def flops_saved(model: Geometry | CostModel, skipped: list[int]) -> FlopsSaved:
    """Return what prefills of `skipped` tokens (one entry a request) would have cost."""
    total = sum(skipped)
    squares = sum(tokens * tokens for tokens in skipped)
    saved = dict.fromkeys(FlopsSaved._fields, 0)
    for kind, prefill in cost_model(model).prefill_by_kind.items():
        saved[_NOT_RECURRENT.get(kind, "mamba")] += (
            prefill.linear * total + prefill.square * squares
        )
    return FlopsSaved(**saved)
