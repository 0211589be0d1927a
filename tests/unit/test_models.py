"""The paper's formulas by hand, models by name and from files, and bad files."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from marconi_core.errors import ModelError
from marconi_core.models import (
    HUB_NAMES,
    MODELS,
    flops,
    hybrid_models,
    load_hybrid_model,
    load_model,
)
from marconi_core.models.paper import Geometry, PaperModel, flops_saved


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


def test_flops_saved_by_real_layers() -> None:
    model = load_hybrid_model("jamba_1_5_mini")
    saved, by_kind = flops_saved(model, [0, 17, 4096]), [model.breakdown(t) for t in (0, 17, 4096)]
    assert saved.mamba == sum(parts["mamba1"] for parts in by_kind) > 0
    assert saved.attn == sum(parts["attention"] for parts in by_kind) > 0
    assert saved.mlp == sum(parts["mlp"] + parts["moe"] for parts in by_kind) > saved.attn
    assert saved.total == sum(model.flops(t) for t in (0, 17, 4096))


def test_totals_are_exact_beyond_64_bits() -> None:
    saved = flops_saved(MODELS["paper_7b"], [10**7] * 1000)
    assert saved.attn == 4 * 1000 * flops.attention_flops(10**7, 4096) > 2**63


@pytest.mark.parametrize("tokens", [0, 1, 17, 4096, 30_000, 10**9])
def test_the_papers_formulas_as_a_cost_model_are_bit_exact(tokens: int) -> None:
    model = PaperModel(MODELS["paper_7b"])
    saved = flops_saved(model.geometry, [tokens])
    assert model.breakdown(tokens) == {
        "mamba": saved.mamba,
        "attention": saved.attn,
        "mlp": saved.mlp,
    }
    assert model.flops(tokens) == saved.total
    assert model.flops_between(tokens, tokens + 5) == model.flops(tokens + 5) - model.flops(tokens)
    assert (model.kv_bytes_per_token, model.state_bytes) == (65_536, 26_787_840)


def test_a_policy_can_take_either_cost_model() -> None:
    """The paper's formulas make a state 409 tokens dear, the real geometry 6,234."""
    lengths = np.array([1_000, 20_000])
    for model in (PaperModel(MODELS["nemotron_h_8b"]), load_hybrid_model("nemotron_h_8b")):
        saved = model.flops_between(lengths - 1_000, lengths)
        assert saved[1] > saved[0] > 0
        assert list(saved) == [model.flops(1_000), model.flops(20_000) - model.flops(19_000)]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("falcon_h1_7b", (44, 44, 44, 3072, 256)),
        ("granite_4_h_small", (36, 4, 40, 4096, 128)),
        ("jamba_1_5_mini", (28, 4, 32, 4096, 16)),
        ("nemotron_h_8b", (24, 4, 24, 4096, 128)),
        ("qwen3_5_27b", (48, 16, 64, 5120, 128)),
        ("qwen3_5_35b_a3b", (30, 10, 40, 2048, 128)),
        ("qwen3_next_80b_a3b", (36, 12, 48, 2048, 128)),
    ],
)
def test_five_numbers_of_real_models(
    name: str, expected: tuple[int, ...], tmp_path: Path, repository: Path
) -> None:
    """By name and from a config.json; for the paper's own models both agree."""
    file = tmp_path / "config.json"
    shutil.copy(repository / "resources" / "models" / f"{name}.json", file)
    assert load_model(name) == load_model(str(file)) == expected


def test_every_config_in_resources_is_tested_and_documented(repository: Path) -> None:
    readme = (repository / "resources" / "models" / "README.md").read_text(encoding="utf-8")
    assert len(hybrid_models()) == 7
    for name in hybrid_models():
        model = load_hybrid_model(name)
        row = next(line for line in readme.splitlines() if line.startswith(f"| `{name}`"))
        cells = [cell.strip() for cell in row.split("|")[3:-1]]
        assert cells == [
            f"{model.kv_bytes_per_token:,}",
            f"{model.state_bytes:,}",
            f"{load_hybrid_model(name, ssm_dtype='bfloat16').state_bytes:,}",
            f"{round(model.state_bytes / model.kv_bytes_per_token):,}",
        ]


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
        ('{"model_type": "jamba"}', "a jamba config needs the keys hidden_size, num_attention"),
        ('{"text_config": [1]}', "text_config: expected an object, found list"),
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


def test_models_are_known_by_folder_and_by_their_names_on_the_hub(
    tmp_path: Path, repository: Path
) -> None:
    readme = (repository / "resources/models/README.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `(\w+)` \| (\S+/\S+) \|", readme, re.MULTILINE)
    assert {hub: name for name, hub in listed} == HUB_NAMES
    assert sorted(HUB_NAMES.values()) == hybrid_models()
    wanted = load_hybrid_model("falcon_h1_7b").layers
    assert load_hybrid_model("tiiuae/Falcon-H1-7B-Instruct").layers == wanted
    config = repository / "resources/models/falcon_h1_7b.json"
    (tmp_path / "config.json").write_bytes(config.read_bytes())
    assert load_hybrid_model(str(tmp_path)).layers == wanted
    assert load_model(str(tmp_path)) == load_model("falcon_h1_7b")
    with pytest.raises(ModelError, match="unknown model 'nobody/nothing'; choose one of") as error:
        load_hybrid_model("nobody/nothing")
    assert str(error.value).endswith("or name a Hugging Face config.json or its folder")


def test_unknown_names_list_the_known() -> None:
    with pytest.raises(ModelError, match="unknown model 'gpt'; choose one of paper_7b"):
        load_model("gpt")
    with pytest.raises(ModelError, match="unknown model 'paper_7b'; choose one of falcon_h1_7b"):
        load_hybrid_model("paper_7b")


def test_five_numbers_do_not_tell_the_real_layers(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    path.write_text(json.dumps(Geometry(1, 2, 3, 4, 5)._asdict()))
    with pytest.raises(ModelError, match="no model_type; the real layers need"):
        load_hybrid_model(str(path))
