"""Random weights have the names and shapes of a real checkpoint, and the folder says what they are."""

import json
import math
from pathlib import Path

import pytest

from marconi_core.assets import resource
from marconi_core.serving.__main__ import main
from marconi_core.serving.errors import ServingError
from marconi_core.serving.spec import ServerSpec
from marconi_core.serving.weights import MARK, are_random, shapes


def test_parameters_are_those_of_the_real_model() -> None:
    config = json.loads(resource("models/nemotron_h_8b.json").read_text())
    named = {name: shape for _, part in shapes(config) for name, shape in part.items()}
    # as transformers 5.12.1 counts its NemotronHForCausalLM of this config
    assert len(named) == 311 and sum(map(math.prod, named.values())) == 8_100_852_736
    assert named["backbone.layers.0.mixer.in_proj.weight"] == (18_560, 4096)
    assert named["backbone.layers.7.mixer.k_proj.weight"] == (1024, 4096)


def test_another_family_is_refused() -> None:
    with pytest.raises(ServingError, match="lacks 'mamba_num_heads'"):
        list(shapes({"hidden_size": 1, "vocab_size": 1, "head_dim": 1, "num_attention_heads": 1,
                     "num_key_value_heads": 1}))  # fmt: skip


def test_a_server_of_random_weights_says_so(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({MARK: 1}))
    (tmp_path / "x.safetensors").touch()
    fields = {"variant": "no_buffer", "model": str(tmp_path), "weights": "real"}
    assert are_random(tmp_path) and "random weights" in ServerSpec.of(fields).label
    (tmp_path / "config.json").write_text("{}")
    assert not are_random(tmp_path) and "random weights" not in ServerSpec.of(fields).label


def test_an_unknown_model_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["random-weights", str(tmp_path / "w"), "--model", "nobody"]) == 2
    assert "nobody is no name in resources/models" in capsys.readouterr().err
    assert not (tmp_path / "w").exists()
