"""Hybrid models from a Hugging Face ``config.json``.

One class per family reads the keys that shape its layers. Defaults are given only for keys that
published files leave out; they are those of SGLang 0.5.16 (``srt/configs``). The dictionary of a
loaded configuration (``hf_config.to_dict()`` inside SGLang) serves as well as the file. Layers that
only draft tokens (multi-token prediction) and vision towers are left out.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
)

from marconi_core.errors import ModelError, shown
from marconi_core.models.hybrid import HybridModel
from marconi_core.models.layers import (
    Attention,
    FeedForward,
    GatedDeltaNet,
    Layer,
    Mamba1,
    Mamba2,
    MixtureOfExperts,
)

Block = Literal["mamba", "attention", "mlp", "moe"]
"""What a layer of Nemotron-H can be."""


LayerCount = Annotated[int, Field(ge=1, le=10_000)]


class _Family(BaseModel):
    """Keys that all families have."""

    model_config = ConfigDict(strict=True)

    DEFAULT_CHUNK_SIZE: ClassVar[int] = 64  # SGLang's FLA_CHUNK_SIZE, for models that say nothing

    hidden_size: PositiveInt
    num_attention_heads: PositiveInt
    num_key_value_heads: PositiveInt | None = None
    head_dim: PositiveInt | None = None
    mamba_chunk_size: PositiveInt | None = None
    mamba_ssm_dtype: str | None = None

    def layers(self) -> Iterator[Layer]:
        raise NotImplementedError

    @property
    def chunk_size(self) -> int:
        return self.mamba_chunk_size or self.DEFAULT_CHUNK_SIZE

    def attention(self, output_gate: bool = False) -> Attention:
        heads = self.num_attention_heads
        if self.head_dim is None and self.hidden_size % heads:
            raise ModelError(
                f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads {heads}; "
                "such a config needs the key head_dim"
            )
        return Attention(
            hidden=self.hidden_size,
            heads=heads,
            kv_heads=self.num_key_value_heads or heads,
            head_dim=self.head_dim or self.hidden_size // heads,
            output_gate=output_gate,
        )

    def needed(self, key: str) -> Any:
        """Return the value of a key that only some models of the family need."""
        value = getattr(self, key)
        if value is None:
            raise ModelError(f"a config with these layers needs the key {key}")
        return value


class _NemotronH(_Family):
    """Every layer is one block: Mamba-2, attention, MLP or experts; squared ReLU, no gates."""

    DEFAULT_CHUNK_SIZE = 256
    BLOCKS: ClassVar[dict[str, Block]] = {"M": "mamba", "*": "attention", "-": "mlp", "E": "moe"}

    layers_block_type: list[Block] | None = None
    hybrid_override_pattern: Annotated[str, Field(pattern=r"^[M*E-]+$")] | None = None
    mamba_num_heads: PositiveInt
    mamba_head_dim: PositiveInt
    ssm_state_size: PositiveInt
    n_groups: PositiveInt = Field(validation_alias=AliasChoices("n_groups", "mamba_n_groups"))
    conv_kernel: PositiveInt = Field(validation_alias=AliasChoices("conv_kernel", "mamba_d_conv"))
    legacy_chunk_size: PositiveInt | None = Field(None, validation_alias="chunk_size")
    intermediate_size: PositiveInt | list[PositiveInt] | None = None
    n_routed_experts: PositiveInt | None = None
    num_experts_per_tok: PositiveInt | None = None
    moe_intermediate_size: PositiveInt | None = None
    moe_shared_expert_intermediate_size: NonNegativeInt | None = None
    n_shared_experts: NonNegativeInt | None = 1
    moe_latent_size: PositiveInt | None = None

    @property
    def chunk_size(self) -> int:
        return self.mamba_chunk_size or self.legacy_chunk_size or self.DEFAULT_CHUNK_SIZE

    def layers(self) -> Iterator[Layer]:
        blocks = self.layers_block_type
        if blocks is None:
            blocks = [self.BLOCKS[letter] for letter in self.needed("hybrid_override_pattern")]
        widths = iter(self._mlp_widths(blocks.count("mlp")))
        for block in blocks:
            if block == "mamba":
                yield Mamba2(
                    hidden=self.hidden_size,
                    heads=self.mamba_num_heads,
                    head_dim=self.mamba_head_dim,
                    state_size=self.ssm_state_size,
                    groups=self.n_groups,
                    conv_kernel=self.conv_kernel,
                )
            elif block == "attention":
                yield self.attention()
            elif block == "mlp":
                yield FeedForward(hidden=self.hidden_size, width=next(widths), gated=False)
            else:
                yield self._experts()

    def _mlp_widths(self, count: int) -> list[int]:
        if not count:
            return []
        widths = self.needed("intermediate_size")
        if isinstance(widths, int):
            return [widths] * count
        if len(widths) not in (1, count):
            raise ModelError(f"intermediate_size lists {len(widths)} widths for {count} MLP layers")
        return widths * count if len(widths) == 1 else widths

    def _experts(self) -> MixtureOfExperts:
        shared = self.n_shared_experts or 0
        return MixtureOfExperts(
            hidden=self.hidden_size,
            experts=self.needed("n_routed_experts"),
            active=self.needed("num_experts_per_tok"),
            width=self.needed("moe_intermediate_size"),
            gated=False,
            shared_width=shared and shared * self.needed("moe_shared_expert_intermediate_size"),
            latent=self.moe_latent_size or 0,
        )


class _Jamba(_Family):
    """Attention in every `attn_layer_period`-th layer, Mamba-1 elsewhere; then an MLP or experts.

    As in Hugging Face transformers (SGLang 0.5.16 does not serve Jamba).
    """

    num_hidden_layers: LayerCount
    intermediate_size: PositiveInt
    attn_layer_period: PositiveInt
    attn_layer_offset: NonNegativeInt
    expert_layer_period: PositiveInt
    expert_layer_offset: NonNegativeInt
    num_experts: PositiveInt
    num_experts_per_tok: PositiveInt
    mamba_d_state: PositiveInt
    mamba_d_conv: PositiveInt
    mamba_expand: PositiveInt
    mamba_dt_rank: PositiveInt | Literal["auto"] = "auto"

    def layers(self) -> Iterator[Layer]:
        hidden = self.hidden_size
        for layer in range(self.num_hidden_layers):
            if layer % self.attn_layer_period == self.attn_layer_offset:
                yield self.attention()
            else:
                rank = self.mamba_dt_rank
                yield Mamba1(
                    hidden=hidden,
                    inner=self.mamba_expand * hidden,
                    state_size=self.mamba_d_state,
                    dt_rank=-(-hidden // 16) if rank == "auto" else rank,
                    conv_kernel=self.mamba_d_conv,
                )
            routed = layer % self.expert_layer_period == self.expert_layer_offset
            if routed and self.num_experts > 1:
                yield MixtureOfExperts(
                    hidden=hidden,
                    experts=self.num_experts,
                    active=self.num_experts_per_tok,
                    width=self.intermediate_size,
                    gated=True,
                )
            else:
                yield FeedForward(hidden=hidden, width=self.intermediate_size, gated=True)


class _Mamba2Keys(_Family):
    """Falcon-H1 and Granite 4 name the numbers of their Mamba-2 layers alike."""

    DEFAULT_CHUNK_SIZE = 256

    num_hidden_layers: LayerCount
    mamba_n_heads: PositiveInt
    mamba_d_head: PositiveInt | Literal["auto"] = "auto"
    mamba_d_state: PositiveInt
    mamba_n_groups: PositiveInt
    mamba_d_conv: PositiveInt
    mamba_expand: PositiveInt = 2

    def mamba(self, inner: int) -> Mamba2:
        heads = self.mamba_n_heads
        head_dim = inner // heads if self.mamba_d_head == "auto" else self.mamba_d_head
        if heads * head_dim != inner:
            raise ModelError(
                f"mamba_n_heads {heads} times mamba_d_head {self.mamba_d_head} is not the width of "
                f"the Mamba layers, {inner}"
            )
        return Mamba2(
            hidden=self.hidden_size,
            heads=heads,
            head_dim=head_dim,
            state_size=self.mamba_d_state,
            groups=self.mamba_n_groups,
            conv_kernel=self.mamba_d_conv,
        )


class _FalconH1(_Mamba2Keys):
    """Every layer runs attention and Mamba-2 side by side, then an MLP."""

    intermediate_size: PositiveInt
    mamba_d_ssm: PositiveInt | None = None

    def layers(self) -> Iterator[Layer]:
        inner = self.mamba_d_ssm or self.mamba_expand * self.hidden_size
        for _ in range(self.num_hidden_layers):
            yield self.attention()
            yield self.mamba(inner)
            yield FeedForward(hidden=self.hidden_size, width=self.intermediate_size, gated=True)


class _GraniteHybrid(_Mamba2Keys):
    """A list names each layer `mamba` or `attention`; each has an MLP, experts, or both added up."""

    layer_types: list[Literal["mamba", "attention"]] = Field(
        validation_alias=AliasChoices("layer_types", "layers_block_type")
    )
    shared_intermediate_size: NonNegativeInt
    num_local_experts: NonNegativeInt
    num_experts_per_tok: NonNegativeInt | None = None
    intermediate_size: PositiveInt | None = None

    def layers(self) -> Iterator[Layer]:
        _check_length("layer_types", self.layer_types, self.num_hidden_layers)
        for kind in self.layer_types:
            if kind == "attention":
                yield self.attention()
            else:
                yield self.mamba(self.mamba_expand * self.hidden_size)
            if self.num_local_experts:
                yield MixtureOfExperts(
                    hidden=self.hidden_size,
                    experts=self.num_local_experts,
                    active=self.needed("num_experts_per_tok"),
                    width=self.needed("intermediate_size"),
                    gated=True,
                    shared_width=self.shared_intermediate_size,
                )
            elif self.shared_intermediate_size:
                yield FeedForward(
                    hidden=self.hidden_size, width=self.shared_intermediate_size, gated=True
                )


class _Qwen(_Family):
    """Gated delta nets with gated attention in between; an MLP or experts in every layer.

    SGLang takes `full_attention_interval` and ignores `layer_types`; a config that has both must
    mean the same by them.
    """

    ROUTED: ClassVar[bool] = True

    num_hidden_layers: LayerCount
    layer_types: list[Literal["linear_attention", "full_attention"]] | None = None
    full_attention_interval: PositiveInt | None = None
    attn_output_gate: bool = True
    linear_num_key_heads: PositiveInt
    linear_key_head_dim: PositiveInt
    linear_num_value_heads: PositiveInt
    linear_value_head_dim: PositiveInt
    linear_conv_kernel_dim: PositiveInt
    intermediate_size: PositiveInt | None = None
    num_experts: NonNegativeInt = 0
    num_experts_per_tok: PositiveInt | None = None
    moe_intermediate_size: PositiveInt | None = None
    shared_expert_intermediate_size: NonNegativeInt = 0
    decoder_sparse_step: PositiveInt = 1
    mlp_only_layers: list[NonNegativeInt] = []

    def layers(self) -> Iterator[Layer]:
        for layer, kind in enumerate(self._kinds()):
            if kind == "full_attention":
                yield self.attention(self.attn_output_gate)
            else:
                yield GatedDeltaNet(
                    hidden=self.hidden_size,
                    key_heads=self.linear_num_key_heads,
                    key_dim=self.linear_key_head_dim,
                    value_heads=self.linear_num_value_heads,
                    value_dim=self.linear_value_head_dim,
                    conv_kernel=self.linear_conv_kernel_dim,
                )
            dense = layer in self.mlp_only_layers or (layer + 1) % self.decoder_sparse_step
            if self.ROUTED and self.num_experts and not dense:
                yield MixtureOfExperts(
                    hidden=self.hidden_size,
                    experts=self.num_experts,
                    active=self.needed("num_experts_per_tok"),
                    width=self.needed("moe_intermediate_size"),
                    gated=True,
                    shared_width=self.shared_expert_intermediate_size,
                    shared_gate=self.shared_expert_intermediate_size > 0,
                )
            else:
                width = self.needed("intermediate_size")
                yield FeedForward(hidden=self.hidden_size, width=width, gated=True)

    def _kinds(self) -> list[str]:
        by_interval = None
        if self.full_attention_interval is not None:
            by_interval = [
                "linear_attention"
                if (layer + 1) % self.full_attention_interval
                else "full_attention"
                for layer in range(self.num_hidden_layers)
            ]
        if self.layer_types is None:
            if by_interval is None:
                raise ModelError(
                    "a config of this family needs the key full_attention_interval or layer_types"
                )
            return by_interval
        _check_length("layer_types", self.layer_types, self.num_hidden_layers)
        if by_interval not in (None, self.layer_types):
            raise ModelError("layer_types and full_attention_interval contradict each other")
        return list(self.layer_types)


class _QwenDense(_Qwen):
    """Qwen3.5 without experts; SGLang's loaded configuration has their keys all the same."""

    ROUTED = False


def _check_length(key: str, values: list[Any], expected: int) -> None:
    if len(values) != expected:
        raise ModelError(f"{key} names {len(values)} layers, num_hidden_layers is {expected}")


FAMILIES: dict[str, type[_Family]] = {
    "nemotron_h": _NemotronH,
    "jamba": _Jamba,
    "falcon_h1": _FalconH1,
    "granitemoehybrid": _GraniteHybrid,
    "qwen3_next": _Qwen,
    "qwen3_5": _QwenDense,
    "qwen3_5_moe": _Qwen,
}
"""The supported families by `model_type` (of the text model, without ``_text``)."""

IGNORE_SSM_DTYPE = ("granitemoehybrid",)
"""Families for which SGLang does not read ``mamba_ssm_dtype`` from the configuration."""


def model_from_config(
    config: Mapping[str, Any],
    name: str,
    kv_dtype: str = "bfloat16",
    ssm_dtype: str | None = None,
) -> HybridModel:
    """Return the model that a configuration describes.

    Args:
        config: the parsed ``config.json``; of a model for images too, its ``text_config`` counts.
        name: the model's name; a file's path, so that messages say where to look.
        kv_dtype: type of the KVs, as in `HybridModel`.
        ssm_dtype: type of the recurrent states; None takes ``mamba_ssm_dtype`` of the
            configuration as SGLang does, or 32 bits.

    Raises:
        ModelError: the family is unknown, a key it needs is missing, a value has the wrong type, is
            negative or contradicts another.
    """
    text = config.get("text_config") or config
    if not isinstance(text, Mapping):
        raise ModelError(f"{name}: text_config: expected an object, found {type(text).__name__}")
    family = str(text.get("model_type", "")).removesuffix("_text")
    if family not in FAMILIES:
        raise ModelError(
            f"{name}: model_type '{family:.80}' is not a known hybrid family ({', '.join(FAMILIES)}); "
            "for the paper's formulas, give a JSON file with the five numbers instead"
        )
    try:
        keys = FAMILIES[family].model_validate(dict(text))
        layers = tuple(keys.layers())
    except ValidationError as error:
        raise ModelError(f"{name}: {_explain(error, family)}") from None
    except ModelError as error:
        raise ModelError(f"{name}: {error}") from None
    if ssm_dtype is None and family not in IGNORE_SSM_DTYPE:
        ssm_dtype = keys.mamba_ssm_dtype
    return HybridModel(
        name=name,
        layers=layers,
        kv_dtype=kv_dtype,
        ssm_dtype=ssm_dtype or "float32",
        chunk_size=keys.chunk_size,
    )


def _explain(error: ValidationError, family: str) -> str:
    """Return one line: all missing keys, or the first wrong value."""
    problems = error.errors()
    missing = [str(problem["loc"][0]) for problem in problems if problem["type"] == "missing"]
    if missing:
        return f"a {family} config needs the key{'s' * (len(missing) > 1)} {', '.join(missing)}"
    key, *inside = problems[0]["loc"]
    where = "".join(f"[{part}]" for part in inside if isinstance(part, int))
    return f"{key}{where}: {problems[0]['msg']}, got {shown(problems[0]['input'])}"
