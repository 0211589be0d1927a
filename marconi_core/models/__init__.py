"""Hybrid models as the paper's formulas see them: by name, from a file, or from a HF config."""

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveInt, ValidationError

from marconi_core.errors import ModelError
from marconi_core.models.huggingface import geometry_from_config
from marconi_core.models.paper import Geometry

MODELS = {
    # NVIDIA's Mamba2-Hybrid 7B, the paper's simulated model (arXiv 2406.07887)
    "paper_7b": Geometry(24, 4, 28, d=4096, n=128),
    "nemotron_h_8b": Geometry(24, 4, 24, d=4096, n=128),
    "jamba_1_5_mini": Geometry(28, 4, 32, d=4096, n=16),
}


class _FiveNumbers(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    num_ssm_layers: NonNegativeInt
    num_attn_layers: NonNegativeInt
    num_mlp_layers: NonNegativeInt
    d: PositiveInt
    n: PositiveInt


def load_model(name: str) -> Geometry:
    """Return a model by registered name or from a JSON file.

    Args:
        name: a key of `MODELS`; or the path of a JSON file with the five numbers of `Geometry`, or
            of a Hugging Face ``config.json``.

    Raises:
        ModelError: no such name or file, broken JSON, a missing or wrong field.
    """
    if name in MODELS:
        return MODELS[name]
    path = Path(name)
    if not path.is_file():
        raise ModelError(
            f"unknown model '{name}'; choose one of {', '.join(MODELS)}, or name a JSON file with "
            f"{', '.join(Geometry._fields)}, or a Hugging Face config.json"
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{path}: not JSON ({error})") from None
    if not isinstance(content, dict):
        raise ModelError(f"{path}: expected a JSON object, found {type(content).__name__}")
    if "model_type" in content or "text_config" in content:
        content = geometry_from_config(content, str(path))._asdict()
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
