"""Model descriptions: the paper's formulas by hand, files, Hugging Face configs, and bad input."""

import json
from pathlib import Path
from typing import Any

import pytest

from marconi_core.errors import ModelError
from marconi_core.models import MODELS, flops, load_model
from marconi_core.models.paper import Geometry, flops_saved


def test_the_papers_sizes() -> None:
    """1,116,160 bytes a layer's state, 26,787,840 a node's states, 65,536 a token's KVs."""
    model = MODELS["paper_7b"]
    assert model == (24, 4, 28, 4096, 128)
    assert flops.state_bytes(4096, 128) == 1_116_160
    assert model.state_bytes == 26_787_840
    assert model.kv_bytes == 65_536
    assert model.state_bytes / model.kv_bytes == pytest.approx(409, abs=0.5)


def test_table_1() -> None:
    assert flops.attention_flops(3, 10) == 8 * 3 * 100 + 4 * 9 * 10
    assert flops.mlp_flops(3, 10) == 16 * 3 * 100
    assert flops.mamba_flops(3, 10, 2) == 12 * 3 * 100 + 16 * 3 * 10 * 2 + 10 * 3 * 10


def test_flops_saved_add_up_request_by_request() -> None:
    model, skipped = MODELS["paper_7b"], [0, 17, 4096, 30_000]
    saved = flops_saved(model, skipped)
    d, n = model.d, model.n
    assert saved.mamba == sum(24 * flops.mamba_flops(t, d, n) for t in skipped)
    assert saved.attn == sum(4 * flops.attention_flops(t, d) for t in skipped)
    assert saved.mlp == sum(28 * flops.mlp_flops(t, d) for t in skipped)
    assert saved.total == saved.mamba + saved.attn + saved.mlp


def test_totals_are_exact_beyond_64_bits() -> None:
    saved = flops_saved(MODELS["paper_7b"], [10**7] * 1000)
    assert saved.attn == 4 * 1000 * flops.attention_flops(10**7, 4096) > 2**63


CONFIGS: list[tuple[dict[str, Any], tuple[int, ...]]] = [
    (
        {"model_type": "nemotron_h", "hybrid_override_pattern": "M-M*-ME", "hidden_size": 64,
         "ssm_state_size": 16},
        (3, 1, 3, 64, 16),
    ),
    (
        {"model_type": "jamba", "num_hidden_layers": 32, "attn_layer_period": 8,
         "attn_layer_offset": 4, "hidden_size": 4096, "mamba_d_state": 16},
        (28, 4, 32, 4096, 16),
    ),
    (
        {"model_type": "falcon_h1", "num_hidden_layers": 24, "hidden_size": 2048,
         "mamba_d_state": 256},
        (24, 24, 24, 2048, 256),
    ),
    (
        {"model_type": "granitemoehybrid", "layer_types": ["mamba"] * 9 + ["attention"],
         "hidden_size": 1536, "mamba_d_state": 128},
        (9, 1, 10, 1536, 128),
    ),
    (
        {"model_type": "qwen3_next", "num_hidden_layers": 48, "full_attention_interval": 4,
         "hidden_size": 2048, "linear_key_head_dim": 128},
        (36, 12, 48, 2048, 128),
    ),
    (
        {"model_type": "qwen3_5", "text_config": {
            "model_type": "qwen3_5_text", "num_hidden_layers": 4, "hidden_size": 1024,
            "layer_types": ["linear_attention"] * 3 + ["full_attention"],
            "linear_key_head_dim": 128}},
        (3, 1, 4, 1024, 128),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("config", "expected"), CONFIGS, ids=[c["model_type"] for c, _ in CONFIGS])
def test_hugging_face_configs(
    config: dict[str, Any], expected: tuple[int, ...], tmp_path: Path
) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    assert load_model(str(path)) == expected


def test_a_file_with_the_five_numbers(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    path.write_text(json.dumps(Geometry(1, 2, 3, 4, 5)._asdict()))
    assert load_model(str(path)) == Geometry(1, 2, 3, 4, 5)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("[]", "expected a JSON object, found list"),
        ("{}", "num_ssm_layers: Field required"),
        ('{"model_type": "llama"}', "model_type 'llama' is not a known hybrid family"),
        ('{"model_type": "jamba"}', "a jamba config needs the key 'num_hidden_layers'"),
        (
            '{"num_ssm_layers": 1, "num_attn_layers": 1, "num_mlp_layers": 1, "d": "x", "n": 1}',
            "d: Input should be a valid integer",
        ),
        (
            '{"num_ssm_layers": 0, "num_attn_layers": 0, "num_mlp_layers": 1, "d": 8, "n": 1}',
            "at least one SSM or attention layer",
        ),
        (
            '{"num_ssm_layers": 1, "num_attn_layers": 1, "num_mlp_layers": 1, "d": 8, "n": 1, '
            '"layers": 2}',
            "layers: Extra inputs are not permitted",
        ),
    ],
)
def test_bad_files_get_one_message(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    path.write_text(content)
    with pytest.raises(ModelError, match=message) as error:
        load_model(str(path))
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_unknown_names_list_the_known() -> None:
    with pytest.raises(ModelError, match="unknown model 'gpt'; choose one of paper_7b"):
        load_model("gpt")
