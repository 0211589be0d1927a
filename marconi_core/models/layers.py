"""The layers of hybrid models as they are served: FLOPs of a prefill and what a cache holds.

Counting, the same for every kind: a multiplication or an addition is one FLOP, so a product of an
m x k and a k x n matrix is 2mkn; exponentials count as one. Left out, together about one percent of
a layer or less: norms, activations, biases, residuals, rotary embeddings, softmax. The embedding and
the output head are left out too: a prefill needs the logits of one token only.

Recurrences are counted as they are defined, token by token, which makes FLOPs linear in tokens.
Kernels for prefill compute the same in chunks, with other constants (per token of Mamba-2 with
chunks of Q tokens: 2Q(groups * state + inner) + 4 * inner * state); Megatron-LM counts 7 per element
of a Mamba-2 state. For the Mamba-2 models in ``resources/models`` either choice moves a layer's FLOPs
by less than two percent: the projections dominate.

Projections follow the modules of SGLang 0.5.16 (``srt/models``, ``srt/layers/attention/mamba``) and,
for Jamba, of Hugging Face transformers; state shapes follow SGLang's
``Mamba2StateShape.create`` (``srt/configs/mamba_utils.py``) on one GPU (tensor parallel size 1).
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from math import prod
from typing import ClassVar, NamedTuple

from marconi_core.errors import ModelError
from marconi_core.models.cost import Polynomial


class StateShape(NamedTuple):
    """Shape of one recurrent layer's state after any token.

    Attributes:
        conv: channels of the short convolution, and the inputs it remembers (kernel - 1).
        ssm: the recurrent state itself.
    """

    conv: tuple[int, int]
    ssm: tuple[int, ...]

    @property
    def conv_elements(self) -> int:
        return prod(self.conv)

    @property
    def ssm_elements(self) -> int:
        return prod(self.ssm)


@dataclass(frozen=True, kw_only=True)
class Layer(ABC):
    """One layer (a block of the model may hold several).

    Attributes:
        hidden: width of the model.

    Raises:
        ModelError: a number is not positive, or numbers contradict each other.
    """

    kind: ClassVar[str]
    may_be_zero: ClassVar[tuple[str, ...]] = ()

    hidden: int

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            least = 0 if field.name in self.may_be_zero or field.type is bool else 1
            if value < least:
                raise ModelError(f"{self.kind} layer: {field.name} is {value}, at least {least}")

    @property
    @abstractmethod
    def prefill(self) -> Polynomial:
        """FLOPs of a prefill through this layer."""

    @property
    def kv_elements(self) -> int:
        """Numbers that a token leaves in the KV cache."""
        return 0

    @property
    def state(self) -> StateShape | None:
        """Shape of the recurrent state, None without one."""
        return None

    def _must_divide(self, name: str, by: str) -> None:
        if getattr(self, name) % getattr(self, by):
            raise ModelError(
                f"{self.kind} layer: {name} {getattr(self, name)} is not a multiple of {by} "
                f"{getattr(self, by)}"
            )


@dataclass(frozen=True, kw_only=True)
class Attention(Layer):
    """Causal attention with grouped queries.

    Projections for queries, output and, with `output_gate`, a gate as wide as the queries (Qwen);
    for keys and values. The token at position i then meets i keys and values, 4 FLOPs per number:
    ``2 * heads * head_dim * L * (L + 1)`` for L tokens. Kernels skip the masked half, so the
    paper's ``4 L^2 D`` is twice as much.
    """

    kind: ClassVar[str] = "attention"

    heads: int
    kv_heads: int
    head_dim: int
    output_gate: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._must_divide("heads", by="kv_heads")

    @property
    def prefill(self) -> Polynomial:
        queries = self.heads * self.head_dim
        projections = 2 * self.hidden * ((2 + self.output_gate) * queries + self.kv_elements)
        return Polynomial(projections + 2 * queries, 2 * queries)

    @property
    def kv_elements(self) -> int:
        return 2 * self.kv_heads * self.head_dim


@dataclass(frozen=True, kw_only=True)
class RecurrentLayer(Layer):
    """A layer with a state instead of KVs: projections, a short convolution, a recurrence.

    Attributes:
        conv_kernel: taps of the convolution.
    """

    conv_kernel: int

    @property
    @abstractmethod
    def state(self) -> StateShape: ...

    @property
    @abstractmethod
    def state_dim(self) -> int:
        """What the paper calls the state dimension N."""

    @property
    @abstractmethod
    def projected(self) -> int:
        """Elements of all projection matrices; each costs two FLOPs a token."""

    @property
    @abstractmethod
    def recurrence_flops(self) -> int:
        """FLOPs of the recurrence per element of the state and token."""

    @property
    def prefill(self) -> Polynomial:
        convolution = 2 * self.conv_kernel * self.state.conv[0]
        recurrence = self.recurrence_flops * self.state.ssm_elements
        return Polynomial(2 * self.projected + convolution + recurrence, 0)


@dataclass(frozen=True, kw_only=True)
class Mamba1(RecurrentLayer):
    """Selective state space layer, as in Jamba.

    The recurrence, per channel and state dimension: discretise A (multiply, exponential) and B
    (multiply), decay and add (multiply, multiply, add), read (multiply, add): 8 FLOPs, as in the
    paper's Table 1, where ``16 L D N`` has 2D channels.

    Attributes:
        inner: channels.
        state_size: state dimension per channel.
        dt_rank: rank of the time step's projection.
    """

    kind: ClassVar[str] = "mamba1"

    inner: int
    state_size: int
    dt_rank: int

    @property
    def projected(self) -> int:
        to_inner_and_gate = self.hidden * 2 * self.inner
        to_dt_b_c = self.inner * (self.dt_rank + 2 * self.state_size)
        return to_inner_and_gate + to_dt_b_c + self.dt_rank * self.inner + self.inner * self.hidden

    @property
    def recurrence_flops(self) -> int:
        return 8

    @property
    def state(self) -> StateShape:
        return StateShape((self.inner, self.conv_kernel - 1), (self.inner, self.state_size))

    @property
    def state_dim(self) -> int:
        return self.state_size


@dataclass(frozen=True, kw_only=True)
class Mamba2(RecurrentLayer):
    """State space duality layer, as in Nemotron-H, Falcon-H1 and Granite 4.

    A and the time step are one number a head, so decay factor and B need no work per state element.
    What is left: decay and add (multiply, multiply, add), read (multiply, add): 5 FLOPs.

    Attributes:
        heads, head_dim: their product is the number of channels.
        state_size: state dimension per channel.
        groups: heads of one group share B and C.
    """

    kind: ClassVar[str] = "mamba2"

    heads: int
    head_dim: int
    state_size: int
    groups: int

    def __post_init__(self) -> None:
        super().__post_init__()
        self._must_divide("heads", by="groups")

    @property
    def inner(self) -> int:
        return self.heads * self.head_dim

    @property
    def projected(self) -> int:
        to_gate_xbc_dt = self.hidden * (self.inner + self.state.conv[0] + self.heads)
        return to_gate_xbc_dt + self.inner * self.hidden

    @property
    def recurrence_flops(self) -> int:
        return 5

    @property
    def state(self) -> StateShape:
        channels = self.inner + 2 * self.groups * self.state_size
        return StateShape(
            (channels, self.conv_kernel - 1), (self.heads, self.head_dim, self.state_size)
        )

    @property
    def state_dim(self) -> int:
        return self.state_size


@dataclass(frozen=True, kw_only=True)
class GatedDeltaNet(RecurrentLayer):
    """Gated delta rule layer, as in Qwen3-Next and Qwen3.5.

    Each value head keeps a matrix of key_dim x value_dim. Per element and token: decay (multiply),
    read with the key, add the correction, read with the query (multiply, add each): 7 FLOPs.

    Attributes:
        key_heads, key_dim: heads of queries and of keys.
        value_heads, value_dim: heads of values; several may share a key head.
    """

    kind: ClassVar[str] = "gated_delta_net"

    key_heads: int
    key_dim: int
    value_heads: int
    value_dim: int

    def __post_init__(self) -> None:
        super().__post_init__()
        self._must_divide("value_heads", by="key_heads")

    @property
    def projected(self) -> int:
        keys, values = self.key_heads * self.key_dim, self.value_heads * self.value_dim
        to_qkv_gate_beta_decay = self.hidden * (2 * keys + 2 * values + 2 * self.value_heads)
        return to_qkv_gate_beta_decay + values * self.hidden

    @property
    def recurrence_flops(self) -> int:
        return 7

    @property
    def state(self) -> StateShape:
        channels = 2 * self.key_heads * self.key_dim + self.value_heads * self.value_dim
        return StateShape(
            (channels, self.conv_kernel - 1), (self.value_heads, self.value_dim, self.key_dim)
        )

    @property
    def state_dim(self) -> int:
        return self.key_dim


@dataclass(frozen=True, kw_only=True)
class FeedForward(Layer):
    """A dense MLP: up and down, and a gate as wide as up if `gated`."""

    kind: ClassVar[str] = "mlp"

    width: int
    gated: bool

    @property
    def prefill(self) -> Polynomial:
        return Polynomial(2 * _matrices(self.gated) * self.hidden * self.width, 0)


@dataclass(frozen=True, kw_only=True)
class MixtureOfExperts(Layer):
    """Routed experts, and perhaps one that every token passes; only active experts cost FLOPs.

    Attributes:
        experts, active: experts there are, and experts a token is routed to.
        width: width of one routed expert.
        gated: whether experts have a gate projection.
        shared_width: width of what every token passes, 0 without.
        shared_gate: one more router output scales the shared expert (Qwen).
        latent: width that routed experts work in, 0 if it is the model's (Nemotron 3 Super).
    """

    kind: ClassVar[str] = "moe"
    may_be_zero: ClassVar[tuple[str, ...]] = ("shared_width", "latent")

    experts: int
    active: int
    width: int
    gated: bool
    shared_width: int = 0
    shared_gate: bool = False
    latent: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.active > self.experts:
            raise ModelError(f"moe layer: {self.active} active of {self.experts} experts")

    @property
    def prefill(self) -> Polynomial:
        router = self.hidden * (self.experts + self.shared_gate)
        routed = self.active * _matrices(self.gated) * (self.latent or self.hidden) * self.width
        shared = _matrices(self.gated) * self.hidden * self.shared_width
        to_latent_and_back = 2 * self.hidden * self.latent
        return Polynomial(2 * (router + routed + shared + to_latent_and_back), 0)


def _matrices(gated: bool) -> int:
    return 3 if gated else 2
