"""A hybrid model as it is served: its layers in order, and the number types of what is cached."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from marconi_core.errors import ModelError
from marconi_core.models.cost import CostModel, Polynomial
from marconi_core.models.layers import FeedForward, Layer, MixtureOfExperts, RecurrentLayer
from marconi_core.models.paper import Geometry

STATE_DTYPES = {"float32": 4, "bfloat16": 2, "float16": 2}
"""Bytes of the number types that states may have."""

KV_DTYPES = STATE_DTYPES | {"fp8_e4m3": 1, "fp8_e5m2": 1}
"""Bytes of the number types that KVs may have."""


@dataclass(frozen=True)
class HybridModel(CostModel):
    """A model of attention and recurrent layers on one GPU.

    The defaults of the number types are SGLang's: KVs and convolution states in the model's 16-bit
    type, recurrent states in 32 bits (``--kv-cache-dtype``, ``SGLANG_MAMBA_CONV_DTYPE``,
    ``--mamba-ssm-dtype`` change them). Use `dataclasses.replace` for a variant.

    Attributes:
        name: for messages and tables.
        layers: in the order in which a token passes them.
        kv_dtype: a key of `KV_DTYPES`.
        conv_dtype: a key of `STATE_DTYPES`.
        ssm_dtype: a key of `STATE_DTYPES`.
        chunk_size: tokens of one chunk of the recurrent kernels. With page size 1, SGLang keeps
            states at multiples of it when the strategy is ``extra_buffer``.

    Raises:
        ModelError: no attention layer, no recurrent layer, or an unknown number type.
    """

    name: str
    layers: tuple[Layer, ...]
    kv_dtype: str = "bfloat16"
    conv_dtype: str = "bfloat16"
    ssm_dtype: str = "float32"
    chunk_size: int = 64

    def __post_init__(self) -> None:
        for what, dtype, known in (
            ("kv_dtype", self.kv_dtype, KV_DTYPES),
            ("conv_dtype", self.conv_dtype, STATE_DTYPES),
            ("ssm_dtype", self.ssm_dtype, STATE_DTYPES),
        ):
            if dtype not in known:
                raise ModelError(
                    f"{self.name}: {what} '{dtype}' is unknown; choose one of {', '.join(known)}"
                )
        if not self.recurrent_layers or not self.kv_bytes_per_token:
            raise ModelError(
                f"{self.name}: not a hybrid model; it needs attention layers and recurrent layers"
            )

    @property
    def layer_kinds(self) -> tuple[str, ...]:
        """The kind of each layer, in order."""
        return tuple(layer.kind for layer in self.layers)

    @property
    def recurrent_layers(self) -> tuple[RecurrentLayer, ...]:
        return tuple(layer for layer in self.layers if isinstance(layer, RecurrentLayer))

    @cached_property
    def kv_bytes_per_token(self) -> int:
        """Bytes of one token's keys and values, all attention layers.

        As SGLang sizes its pool: layers * 2 * kv_heads * head_dim * bytes of the type
        (``DefaultPoolConfigurator._compute_cell_size``).
        """
        return KV_DTYPES[self.kv_dtype] * sum(layer.kv_elements for layer in self.layers)

    @cached_property
    def state_bytes(self) -> int:
        """Bytes of one checkpoint: convolution and recurrent states of all layers.

        As SGLang sizes a state slot (``BaseLinearStateParams.mamba_cache_per_req``).
        """
        states = [layer.state for layer in self.recurrent_layers]
        return STATE_DTYPES[self.conv_dtype] * sum(
            state.conv_elements for state in states
        ) + STATE_DTYPES[self.ssm_dtype] * sum(state.ssm_elements for state in states)

    @cached_property
    def prefill_by_kind(self) -> Mapping[str, Polynomial]:
        """FLOPs of a prefill per kind of layer, in the order in which the kinds first occur."""
        totals: dict[str, Polynomial] = {}
        for layer in self.layers:
            totals[layer.kind] = totals.get(layer.kind, Polynomial(0, 0)).plus(layer.prefill)
        return totals

    @property
    def geometry(self) -> Geometry:
        """The five numbers that the paper's formulas know of this model.

        Experts count as one MLP layer; the formulas know no widths, grouped queries or heads.
        """
        recurrent = self.recurrent_layers
        return Geometry(
            num_ssm_layers=len(recurrent),
            num_attn_layers=sum(layer.kv_elements > 0 for layer in self.layers),
            num_mlp_layers=sum(
                isinstance(layer, FeedForward | MixtureOfExperts) for layer in self.layers
            ),
            d=self.layers[0].hidden,
            n=recurrent[0].state_dim,
        )
