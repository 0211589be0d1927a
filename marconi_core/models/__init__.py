"""Hybrid models by name, from a file, or from a Hugging Face config.

`load_model` gives the paper's five numbers, which its simulations use; `load_hybrid_model` gives the
real layers. Both sides are cost models (`models.cost.CostModel`): ``PaperModel(load_model(name))``
and ``load_hybrid_model(name)`` answer the same questions.
"""

import json
import os
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveInt, ValidationError

from marconi_core.assets import resource
from marconi_core.errors import ModelError
from marconi_core.models.huggingface import model_from_config
from marconi_core.models.hybrid import HybridModel
from marconi_core.models.paper import Geometry

MODELS = {
    # NVIDIA's Mamba2-Hybrid 7B, the paper's simulated model (arXiv 2406.07887)
    "paper_7b": Geometry(24, 4, 28, d=4096, n=128),
    "nemotron_h_8b": Geometry(24, 4, 24, d=4096, n=128),
    "jamba_1_5_mini": Geometry(28, 4, 32, d=4096, n=16),
}


HUB_NAMES = {
    "nvidia/Nemotron-H-8B-Base-8K": "nemotron_h_8b",
    "ai21labs/AI21-Jamba-1.5-Mini": "jamba_1_5_mini",
    "tiiuae/Falcon-H1-7B-Instruct": "falcon_h1_7b",
    "ibm-granite/granite-4.0-h-small": "granite_4_h_small",
    "Qwen/Qwen3-Next-80B-A3B-Instruct": "qwen3_next_80b_a3b",
    "Qwen/Qwen3.5-27B": "qwen3_5_27b",
    "Qwen/Qwen3.5-35B-A3B": "qwen3_5_35b_a3b",
}
"""Names on the hub of the models whose configs are in ``resources/models``."""


class _FiveNumbers(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    num_ssm_layers: NonNegativeInt
    num_attn_layers: NonNegativeInt
    num_mlp_layers: NonNegativeInt
    d: PositiveInt
    n: PositiveInt


def hybrid_models() -> list[str]:
    """Return the names of the models whose configs are in ``resources/models``."""
    return sorted(path.stem for path in resource("models").glob("*.json"))


def load_model(name: str) -> Geometry:
    """Return the paper's five numbers of a model by registered name or from a JSON file.

    Args:
        name: a key of `MODELS` or `HUB_NAMES` or one of `hybrid_models`; or the path of a JSON file with
            the five numbers of `Geometry`, or of a Hugging Face ``config.json`` or its folder.

    Raises:
        ModelError: no such name or file, broken JSON, a missing or wrong field.
    """
    if name in MODELS:
        return MODELS[name]
    known = list(dict.fromkeys([*MODELS, *hybrid_models()]))
    path, content = _read(name, known, f"a JSON file with {', '.join(Geometry._fields)}, or ")
    if _is_config(content):
        return model_from_config(content, str(path)).geometry
    try:
        geometry = Geometry(**_FiveNumbers.model_validate(content).model_dump())
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(map(str, problem["loc"]))
        raise ModelError(
            f"{path}: {key}: {problem['msg']}; the keys are {', '.join(Geometry._fields)}"
        ) from None
    if geometry.num_ssm_layers + geometry.num_attn_layers == 0:
        raise ModelError(f"{path}: a model needs at least one SSM or attention layer")
    return geometry


def load_hybrid_model(
    name: str, kv_dtype: str = "bfloat16", ssm_dtype: str | None = None
) -> HybridModel:
    """Return the real layers of a model by registered name or from its ``config.json``.

    Args:
        name: one of `hybrid_models` or `HUB_NAMES`, or the path of a Hugging Face ``config.json`` or of
            its folder.
        kv_dtype: see `models.hybrid.HybridModel`.
        ssm_dtype: None for what SGLang takes by default.

    Raises:
        ModelError: no such name or file, broken JSON, an unknown family, a missing or wrong field.
    """
    known = hybrid_models()
    path, content = _read(name, known, "")
    if not _is_config(content):
        raise ModelError(
            f"{path}: no model_type; the real layers need a Hugging Face config.json, the paper's "
            "five numbers do not tell them"
        )
    return model_from_config(content, name if name in known else str(path), kv_dtype, ssm_dtype)


def model_files(*names: str) -> list[str]:
    """Return the files that `load_model` and `load_hybrid_model` read, for models that have one."""
    paths = (_path(name) for name in names)
    return sorted({str(path) for path in paths if os.path.isfile(path)})


def _is_config(content: dict[str, Any]) -> bool:
    return "model_type" in content or "text_config" in content


def _path(name: str) -> Path:
    """Return where a model is described, if it is: by registered name, name on the hub, file or folder."""
    if name in hybrid_models():
        return resource(f"models/{name}.json")
    path = Path(name)
    if os.path.isdir(path):
        return path / "config.json"
    return resource(f"models/{HUB_NAMES[name]}.json") if name in HUB_NAMES else path


def _read(name: str, known: list[str], other_files: str) -> tuple[Path, dict[str, Any]]:
    path = _path(name)
    if not os.path.isfile(path):  # False for a name that no file can have
        raise ModelError(
            f"unknown model '{name}'; choose one of {', '.join(known)}, or name {other_files}a "
            "Hugging Face config.json or its folder"
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: not JSON ({error})") from None
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from None
    if not isinstance(content, dict):
        raise ModelError(f"{path}: expected a JSON object, found {type(content).__name__}")
    return path, content
