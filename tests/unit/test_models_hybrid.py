"""Real layers of hybrid models: every family by hand, SGLang's own sizes, and bad configs."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from marconi_core.errors import ModelError
from marconi_core.models import load_hybrid_model
from marconi_core.models.cost import Polynomial
from marconi_core.models.huggingface import model_from_config
from marconi_core.models.hybrid import HybridModel
from marconi_core.models.layers import Attention, FeedForward, Mamba2, MixtureOfExperts

Config = dict[str, Any]

NEMOTRON: Config = {
    "model_type": "nemotron_h", "hybrid_override_pattern": "M*-E", "hidden_size": 8,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 2,
    "mamba_num_heads": 4, "mamba_head_dim": 3, "ssm_state_size": 5, "n_groups": 2, "conv_kernel": 4,
    "chunk_size": 128, "intermediate_size": 16, "n_routed_experts": 6, "num_experts_per_tok": 2,
    "moe_intermediate_size": 4, "moe_shared_expert_intermediate_size": 10, "moe_latent_size": 3,
}  # fmt: skip
JAMBA: Config = {
    "model_type": "jamba", "num_hidden_layers": 4, "hidden_size": 8, "intermediate_size": 16,
    "num_attention_heads": 4, "num_key_value_heads": 1, "attn_layer_period": 2,
    "attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 1, "num_experts": 4,
    "num_experts_per_tok": 2, "mamba_d_state": 3, "mamba_d_conv": 4, "mamba_expand": 2,
    "mamba_dt_rank": "auto",
}  # fmt: skip
FALCON: Config = {
    "model_type": "falcon_h1", "num_hidden_layers": 2, "hidden_size": 8, "intermediate_size": 16,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 4, "mamba_d_ssm": 12,
    "mamba_n_heads": 4, "mamba_d_head": "auto", "mamba_n_groups": 1, "mamba_d_state": 5,
    "mamba_d_conv": 3,
}  # fmt: skip
GRANITE: Config = {
    "model_type": "granitemoehybrid", "num_hidden_layers": 2, "layer_types": ["mamba", "attention"],
    "hidden_size": 8, "num_attention_heads": 4, "num_key_value_heads": 2, "mamba_n_heads": 4,
    "mamba_d_head": 4, "mamba_n_groups": 1, "mamba_d_state": 3, "mamba_d_conv": 4,
    "mamba_expand": 2, "num_local_experts": 4, "num_experts_per_tok": 2, "intermediate_size": 6,
    "shared_intermediate_size": 10,
}  # fmt: skip
QWEN: Config = {
    "model_type": "qwen3_next", "num_hidden_layers": 4, "full_attention_interval": 4,
    "hidden_size": 8, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4,
    "linear_num_key_heads": 2, "linear_key_head_dim": 3, "linear_num_value_heads": 4,
    "linear_value_head_dim": 5, "linear_conv_kernel_dim": 4, "num_experts": 6,
    "num_experts_per_tok": 2, "moe_intermediate_size": 4, "shared_expert_intermediate_size": 10,
    "intermediate_size": 16,
}  # fmt: skip

# Each linear coefficient as it is computed on paper: 2 * (projections) + convolution + recurrence.
NEMOTRON_MAMBA = (
    2 * (8 * (12 + 32 + 4) + 12 * 8) + 2 * 4 * 32 + 5 * 4 * 3 * 5
)  # 32 = 12 + 2 * 2 * 5
NEMOTRON_MOE = 2 * (8 * 6 + 2 * 2 * 3 * 4 + 2 * 8 * 10 + 2 * 8 * 3)
JAMBA_MAMBA = 2 * (8 * 32 + 16 * (1 + 6) + 1 * 16 + 16 * 8) + 2 * 4 * 16 + 8 * 16 * 3
FALCON_MAMBA = 2 * (8 * (12 + 22 + 4) + 12 * 8) + 2 * 3 * 22 + 5 * 4 * 3 * 5  # 22 = 12 + 2 * 5
GRANITE_MAMBA = 2 * (8 * (16 + 22 + 4) + 16 * 8) + 2 * 4 * 22 + 5 * 4 * 4 * 3  # 22 = 16 + 2 * 3
QWEN_DELTA = 2 * (8 * (2 * 6 + 2 * 20 + 2 * 4) + 20 * 8) + 2 * 4 * 32 + 7 * 4 * 3 * 5

FAMILIES: dict[str, tuple[Config, dict[str, tuple[int, int]], int, int]] = {
    "nemotron_h": (
        NEMOTRON,
        {
            "mamba2": (NEMOTRON_MAMBA, 0),
            "attention": (2 * 8 * (2 * 8 + 8) + 16, 16),
            "mlp": (2 * 2 * 8 * 16, 0),
            "moe": (NEMOTRON_MOE, 0),
        },
        2 * 2 * 2 * 2,
        32 * 3 * 2 + 4 * 3 * 5 * 4,
    ),
    "jamba": (
        JAMBA,
        {
            "mamba1": (2 * JAMBA_MAMBA, 0),
            "mlp": (2 * (2 * 3 * 8 * 16), 0),
            "attention": (2 * (2 * 8 * (2 * 8 + 4) + 16), 2 * 16),
            "moe": (2 * (2 * (8 * 4 + 2 * 3 * 8 * 16)), 0),
        },
        2 * (2 * 1 * 2) * 2,
        2 * (16 * 3 * 2 + 16 * 3 * 4),
    ),
    "falcon_h1": (
        FALCON,
        {
            "attention": (2 * (2 * 8 * (2 * 16 + 16) + 32), 2 * 32),
            "mamba2": (2 * FALCON_MAMBA, 0),
            "mlp": (2 * (2 * 3 * 8 * 16), 0),
        },
        2 * (2 * 2 * 4) * 2,
        2 * (22 * 2 * 2 + 4 * 3 * 5 * 4),
    ),
    "granitemoehybrid": (
        GRANITE,
        {
            "mamba2": (GRANITE_MAMBA, 0),
            "moe": (2 * (2 * (8 * 4 + 2 * 3 * 8 * 6 + 3 * 8 * 10)), 0),
            "attention": (2 * 8 * (2 * 8 + 8) + 16, 16),
        },
        2 * 2 * 2 * 2,
        22 * 3 * 2 + 4 * 4 * 3 * 4,
    ),
    "qwen3_next": (
        QWEN,
        {
            "gated_delta_net": (3 * QWEN_DELTA, 0),
            "moe": (4 * (2 * (8 * (6 + 1) + 2 * 3 * 8 * 4 + 3 * 8 * 10)), 0),
            "attention": (2 * 8 * (3 * 8 + 8) + 16, 16),
        },
        2 * 1 * 4 * 2,
        3 * (32 * 3 * 2 + 4 * 5 * 3 * 4),
    ),
    "qwen3_5": (
        {"model_type": "qwen3_5", "text_config": QWEN | {"model_type": "qwen3_5_text"}},
        {
            "gated_delta_net": (3 * QWEN_DELTA, 0),
            "mlp": (4 * (2 * 3 * 8 * 16), 0),
            "attention": (2 * 8 * (3 * 8 + 8) + 16, 16),
        },
        2 * 1 * 4 * 2,
        3 * (32 * 3 * 2 + 4 * 5 * 3 * 4),
    ),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_by_hand(family: str) -> None:
    config, expected, kv_bytes, state_bytes = FAMILIES[family]
    model = model_from_config(config, family)
    assert dict(model.prefill_by_kind) == expected
    assert list(model.prefill_by_kind) == list(expected)  # in the order of the layers
    assert model.kv_bytes_per_token == kv_bytes
    assert model.state_bytes == state_bytes
    linear = sum(coefficients[0] for coefficients in expected.values())
    square = sum(coefficients[1] for coefficients in expected.values())
    assert model.flops(10) == 10 * linear + 100 * square
    assert model.flops_between(4, 10) == 6 * linear + 84 * square
    assert model.breakdown(10) == {k: 10 * a + 100 * b for k, (a, b) in expected.items()}


def test_attention_costs_four_flops_per_number_of_every_token_seen() -> None:
    layer = Attention(hidden=8, heads=4, kv_heads=2, head_dim=2)
    projections = 2 * 8 * (8 + 4 + 4 + 8)
    for length in (1, 2, 7):
        by_token = sum(projections + 4 * 8 * seen for seen in range(1, length + 1))
        assert layer.prefill.at(length) == by_token


def test_layers_keep_their_order() -> None:
    model = model_from_config(NEMOTRON, "n")
    assert model.layer_kinds == ("mamba2", "attention", "mlp", "moe")
    listed = ["mamba", "attention", "mlp", "moe"]
    same = {k: v for k, v in NEMOTRON.items() if k != "hybrid_override_pattern"}
    assert model_from_config(same | {"layers_block_type": listed}, "n") == model
    assert model_from_config(FALCON, "f").layer_kinds == ("attention", "mamba2", "mlp") * 2
    assert model.geometry == (1, 1, 2, 8, 5)


def test_nemotron_h_8b_as_sglang_sizes_it() -> None:
    """SGLang on a GPU: 16 KiB a token, 102.1 MB a state, 51.8 MB with 16 bits; 6,234 tokens.

    A layer's state by hand: convolution 10,240 x 3 in 16 bits, SSM 128 x 64 x 128 in 32 bits.
    """
    model = load_hybrid_model("nemotron_h_8b")
    assert model.layer_kinds[:10] == ("mamba2", "mlp") * 3 + (
        "mamba2",
        "attention",
        "mlp",
        "mamba2",
    )
    state = model.recurrent_layers[0].state
    assert state == ((10_240, 3), (128, 64, 128))
    assert model.state_bytes == 24 * (10_240 * 3 * 2 + 128 * 64 * 128 * 4) == 102_137_856
    assert model.kv_bytes_per_token == 4 * 2 * 8 * 128 * 2 == 16 * 1024
    assert model.state_bytes == 6_234 * model.kv_bytes_per_token
    half = load_hybrid_model("nemotron_h_8b", ssm_dtype="bfloat16")
    assert half.state_bytes == 24 * (10_240 * 3 * 2 + 128 * 64 * 128 * 2) == 51_806_208
    assert half == replace(model, ssm_dtype="bfloat16")
    assert replace(model, kv_dtype="fp8_e4m3").kv_bytes_per_token == 8 * 1024
    assert model.chunk_size == 128


def test_nemotron_h_8b_has_the_published_number_of_parameters() -> None:
    """Projections are half of the FLOPs of one token; with the rest it is 8,100,852,736."""
    model = load_hybrid_model("nemotron_h_8b")
    beyond_projections = 24 * (2 * 4 * 10_240 + 5 * 128 * 64 * 128) + 4 * 2 * 4096
    projections = (model.prefill.linear - beyond_projections) // 2
    embeddings = 2 * 131_072 * 4096
    convolutions = 24 * 10_240 * (4 + 1)
    heads, norms = 24 * 3 * 128, 24 * 8192 + 53 * 4096
    assert projections + embeddings + convolutions + heads + norms == 8_100_852_736


@pytest.mark.parametrize(
    ("name", "kv_bytes", "state_bytes", "chunk_size"),
    [
        # attention layers * 2 * kv heads * head_dim * 2 bytes;
        # recurrent layers * (conv channels * 3 * 2 bytes + state * 4 bytes)
        ("falcon_h1_7b", 44 * 2 * 2 * 128 * 2, 44 * (3_584 * 6 + 24 * 128 * 256 * 4), 128),
        ("granite_4_h_small", 4 * 2 * 8 * 128 * 2, 36 * (8_448 * 6 + 128 * 64 * 128 * 4), 256),
        ("jamba_1_5_mini", 4 * 2 * 8 * 128 * 2, 28 * (8_192 * 6 + 8_192 * 16 * 4), 64),
        ("qwen3_5_27b", 16 * 2 * 4 * 256 * 2, 48 * (10_240 * 6 + 48 * 128 * 128 * 4), 64),
        ("qwen3_5_35b_a3b", 10 * 2 * 2 * 256 * 2, 30 * (8_192 * 6 + 32 * 128 * 128 * 4), 64),
        ("qwen3_next_80b_a3b", 12 * 2 * 2 * 256 * 2, 36 * (8_192 * 6 + 32 * 128 * 128 * 4), 64),
    ],
)
def test_sizes_of_real_models(name: str, kv_bytes: int, state_bytes: int, chunk_size: int) -> None:
    model = load_hybrid_model(name)
    assert (model.kv_bytes_per_token, model.state_bytes) == (kv_bytes, state_bytes)
    assert model.chunk_size == chunk_size


def test_state_type_as_sglang_chooses_it() -> None:
    """Flag, then configuration, then 32 bits; Granite's configuration is not asked."""
    half = {"mamba_ssm_dtype": "bfloat16"}
    assert model_from_config(NEMOTRON, "n").ssm_dtype == "float32"
    assert model_from_config(NEMOTRON | half, "n").ssm_dtype == "bfloat16"
    assert model_from_config(NEMOTRON | half, "n", ssm_dtype="float16").ssm_dtype == "float16"
    assert model_from_config(GRANITE | half, "g").ssm_dtype == "float32"
    assert model_from_config(GRANITE | half, "g", ssm_dtype="bfloat16").ssm_dtype == "bfloat16"


def test_variants_of_the_families() -> None:
    assert model_from_config(NEMOTRON | {"chunk_size": None}, "n").chunk_size == 256
    assert model_from_config(NEMOTRON | {"mamba_chunk_size": 64}, "n").chunk_size == 64
    assert model_from_config(FALCON, "f").chunk_size == 256
    wide = model_from_config(FALCON | {"mamba_d_ssm": None}, "f")  # falls back on expand * hidden
    assert wide.recurrent_layers[0].state.ssm == (4, 4, 5)
    dense = model_from_config(GRANITE | {"num_local_experts": 0}, "g")
    assert dense.prefill_by_kind["mlp"] == (2 * (2 * 3 * 8 * 10), 0)
    bare = model_from_config(GRANITE | {"num_local_experts": 0, "shared_intermediate_size": 0}, "g")
    assert bare.layer_kinds == ("mamba2", "attention")
    single = model_from_config(JAMBA | {"num_experts": 1}, "j")
    assert "moe" not in single.prefill_by_kind
    ungated = model_from_config(QWEN | {"attn_output_gate": False}, "q")
    assert ungated.prefill_by_kind["attention"] == (2 * 8 * (2 * 8 + 8) + 16, 16)
    kinds = ["full_attention", "linear_attention"]
    listed = {"full_attention_interval": None, "layer_types": kinds, "num_hidden_layers": 2}
    assert model_from_config(QWEN | listed | {"mlp_only_layers": [0]}, "q").layer_kinds == (
        "attention",
        "mlp",
        "gated_delta_net",
        "moe",
    )
    widths = NEMOTRON | {"hybrid_override_pattern": "M*--", "intermediate_size": [16, 32]}
    assert model_from_config(widths, "n").prefill_by_kind["mlp"] == (2 * 2 * 8 * 48, 0)
    assert model_from_config(widths | {"intermediate_size": [16]}, "n").prefill_by_kind["mlp"] == (
        2 * 2 * 8 * 32,
        0,
    )


def test_many_lengths_at_once_equal_one_by_one() -> None:
    model = load_hybrid_model("nemotron_h_8b")
    lengths = np.array([[0, 1], [4_096, 1_000_000]], dtype=np.int32)
    many = model.flops(lengths)
    assert many.dtype == np.int64 and many.shape == (2, 2)
    assert many.tolist() == [[model.flops(int(n)) for n in row] for row in lengths]
    assert model.flops(np.int32(4_096)) == model.flops(4_096)  # no 32-bit arithmetic
    between = model.flops_between(np.array([10, 20]), np.array([15, 20]))
    assert between.tolist() == [model.flops_between(10, 15), 0]
    assert sum(part.sum() for part in model.breakdown(lengths).values()) == many.sum()


def test_values_beyond_64_bits_are_refused_in_arrays_and_exact_alone() -> None:
    model = load_hybrid_model("nemotron_h_8b")
    tokens = 2**40
    assert model.flops(tokens) == tokens * model.prefill.linear + tokens**2 * model.prefill.square
    with pytest.raises(ModelError, match="do not fit 64 bits"):
        model.flops(np.array([1, tokens]))


@pytest.mark.parametrize("tokens", [-1, 1.5, np.array([1.0]), np.array([3, -1]), "7"])
def test_lengths_are_natural_numbers(tokens: Any) -> None:
    with pytest.raises(ModelError, match=r"numbers? of tokens"):
        load_hybrid_model("nemotron_h_8b").flops(tokens)


def test_a_polynomial_through_two_values() -> None:
    assert Polynomial.through(7, 20) == (4, 3)
    assert Polynomial(4, 3).plus(Polynomial(1, 1)).at(2) == 26


def _without(config: Config, key: str) -> Config:
    return {k: v for k, v in config.items() if k != key}


BAD: list[tuple[Config, str]] = [
    ({}, "model_type '' is not a known hybrid family (nemotron_h, jamba"),
    (_without(NEMOTRON, "hidden_size"), "a nemotron_h config needs the key hidden_size"),
    (_without(NEMOTRON, "n_groups"), "a nemotron_h config needs the key n_groups"),
    (_without(NEMOTRON, "intermediate_size"), "needs the key intermediate_size"),
    (_without(NEMOTRON, "n_routed_experts"), "needs the key n_routed_experts"),
    (_without(NEMOTRON, "hybrid_override_pattern"), "needs the key hybrid_override_pattern"),
    (NEMOTRON | {"hybrid_override_pattern": "M*X"}, "hybrid_override_pattern: String should match"),
    (NEMOTRON | {"layers_block_type": ["mamba", "conv"]}, "layers_block_type[1]: Input should be"),
    (NEMOTRON | {"hidden_size": -8}, "hidden_size: Input should be greater than 0, got -8"),
    (NEMOTRON | {"hidden_size": "8"}, "hidden_size: Input should be a valid integer, got '8'"),
    (NEMOTRON | {"hidden_size": 8.5}, "hidden_size: Input should be a valid integer"),
    (NEMOTRON | {"hidden_size": True}, "hidden_size: Input should be a valid integer, got True"),
    (NEMOTRON | {"n_groups": 3}, "mamba2 layer: heads 4 is not a multiple of groups 3"),
    (NEMOTRON | {"num_key_value_heads": 3}, "attention layer: heads 4 is not a multiple of kv_he"),
    (NEMOTRON | {"num_experts_per_tok": 7}, "moe layer: 7 active of 6 experts"),
    (NEMOTRON | {"intermediate_size": [1, 2]}, "intermediate_size lists 2 widths for 1 MLP layers"),
    (NEMOTRON | {"head_dim": None, "hidden_size": 9}, "9 is not a multiple of num_attention_heads"),
    (NEMOTRON | {"mamba_ssm_dtype": "int8"}, "ssm_dtype 'int8' is unknown; choose one of float32"),
    (NEMOTRON | {"hybrid_override_pattern": "M-M"}, "not a hybrid model; it needs attention"),
    (NEMOTRON | {"hybrid_override_pattern": "*-"}, "not a hybrid model; it needs attention"),
    (JAMBA | {"mamba_dt_rank": "big"}, "mamba_dt_rank: Input should be"),
    (FALCON | {"mamba_d_head": 5}, "mamba_n_heads 4 times mamba_d_head 5 is not the width"),
    (FALCON | {"mamba_d_ssm": 13}, "mamba_n_heads 4 times mamba_d_head auto is not the width"),
    (_without(FALCON, "mamba_n_heads"), "a falcon_h1 config needs the key mamba_n_heads"),
    (GRANITE | {"layer_types": ["mamba"]}, "layer_types names 1 layers, num_hidden_layers is 2"),
    (_without(GRANITE, "layer_types"), "a granitemoehybrid config needs the key layer_types"),
    (_without(GRANITE, "intermediate_size"), "needs the key intermediate_size"),
    (_without(QWEN, "full_attention_interval"), "full_attention_interval or layer_types"),
    (QWEN | {"layer_types": ["full_attention"] * 4}, "contradict each other"),
    (QWEN | {"linear_num_value_heads": 3}, "value_heads 3 is not a multiple of key_heads 2"),
    (_without(QWEN, "moe_intermediate_size"), "needs the key moe_intermediate_size"),
    ({"text_config": QWEN | {"head_dim": 0}}, "head_dim: Input should be greater than 0, got 0"),
]


@pytest.mark.parametrize(("config", "message"), BAD, ids=[message for _, message in BAD])
def test_bad_configs_get_one_message(config: Config, message: str) -> None:
    with pytest.raises(ModelError) as error:
        model_from_config(config, "here/config.json")
    assert str(error.value).startswith("here/config.json: ")
    assert message in str(error.value) and "\n" not in str(error.value)


def test_layers_and_types_are_checked_without_a_config_too() -> None:
    with pytest.raises(ModelError, match="mlp layer: width is 0, at least 1"):
        FeedForward(hidden=8, width=0, gated=False)
    with pytest.raises(ModelError, match="moe layer: shared_width is -1, at least 0"):
        MixtureOfExperts(hidden=8, experts=2, active=1, width=4, gated=True, shared_width=-1)
    with pytest.raises(ModelError, match="mamba2 layer: conv_kernel is -4"):
        Mamba2(hidden=8, heads=2, head_dim=2, state_size=2, groups=1, conv_kernel=-4)
    layers = model_from_config(NEMOTRON, "n").layers
    with pytest.raises(ModelError, match="mine: kv_dtype 'fp4' is unknown; choose one of float32"):
        HybridModel("mine", layers, kv_dtype="fp4")
