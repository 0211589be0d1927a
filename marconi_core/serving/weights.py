"""Random weights of usual size, for a Nemotron-H whose states remember.

SGLang's own random weights (``--load-format dummy``) are all near zero: what a state holds is lost in
the rounding of what follows, so that a wrong state cannot be told from a right one. Here each kind of
parameter has the distribution that training starts from (Mamba-2's for the SSM layers: steps of 0.001
to 0.1, decay rates from 1 to the number of heads), which makes outputs depend on thousands of tokens.
"""

import json
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from marconi_core.progress import Heartbeat
from marconi_core.serving.errors import ServingError

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

MARK = "marconi_random_weights"
"""Key of ``config.json`` that tells such a folder from a trained model; its value is the seed."""

LINEAR_STD = 0.02
STEPS = (1e-3, 1e-1)
"""Smallest and largest step of an SSM head, before the token has its say."""


def are_random(folder: Path) -> bool:
    """Tell whether a model's folder was written by `write_random_weights`."""
    try:
        return MARK in json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False


def shapes(config: dict[str, Any]) -> Iterator[tuple[str, dict[str, tuple[int, ...]]]]:
    """Yield a name and the shapes of its parameters, for every part of a Nemotron-H checkpoint.

    Args:
        config: of Hugging Face, with `hybrid_override_pattern`.

    Raises:
        ServingError: the config is of another family, or lacks a key.
    """
    try:
        hidden, vocabulary = config["hidden_size"], config["vocab_size"]
        head, heads, kv_heads = (
            config[name] for name in ("head_dim", "num_attention_heads", "num_key_value_heads")
        )
        ssm_heads = config["mamba_num_heads"]
        inner = ssm_heads * config["mamba_head_dim"]
        convolved = inner + 2 * config["n_groups"] * config["ssm_state_size"]
        layers = {
            "M": {
                "in_proj.weight": (inner + convolved + ssm_heads, hidden),
                "conv1d.weight": (convolved, 1, config["conv_kernel"]),
                "conv1d.bias": (convolved,),
                "A_log": (ssm_heads,),
                "D": (ssm_heads,),
                "dt_bias": (ssm_heads,),
                "norm.weight": (inner,),
                "out_proj.weight": (hidden, inner),
            },
            "-": {
                "up_proj.weight": (config["intermediate_size"], hidden),
                "down_proj.weight": (hidden, config["intermediate_size"]),
            },
            "*": {
                "q_proj.weight": (heads * head, hidden),
                "k_proj.weight": (kv_heads * head, hidden),
                "v_proj.weight": (kv_heads * head, hidden),
                "o_proj.weight": (hidden, heads * head),
            },
        }
        parts = [layers[kind] for kind in config["hybrid_override_pattern"]]
    except KeyError as error:
        raise ServingError(
            f"random weights are for Nemotron-H; config.json lacks {error}"
        ) from None
    yield "embeddings", {"backbone.embeddings.weight": (vocabulary, hidden)}
    for number, part in enumerate(parts):
        layer = f"backbone.layers.{number}"
        named = {f"{layer}.mixer.{name}": shape for name, shape in part.items()}
        yield f"layer-{number:02}", {f"{layer}.norm.weight": (hidden,), **named}
    yield "head", {"backbone.norm_f.weight": (hidden,), "lm_head.weight": (vocabulary, hidden)}


def write_random_weights(source: Path, folder: Path, seed: int = 1) -> None:
    """Write a model's folder: config.json and 16-bit weights in safetensors.

    Args:
        source: the model's config.json.
        folder: to be made, or completed; needs twice as many bytes as the model has parameters.
        seed: equal seeds give equal weights on the same kind of device (a GPU, if there is one).

    Raises:
        ServingError: the family is not known, or PyTorch or safetensors is not there.
    """
    try:
        import torch
        from safetensors.torch import save_file
    except ImportError as error:
        raise ServingError(
            f"writing weights needs PyTorch and safetensors ({error}); run this with the Python that "
            "serves the model"
        ) from None
    config = json.loads(source.read_text(encoding="utf-8"))
    parts = list(shapes(config))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dice = torch.Generator(device).manual_seed(seed)
    folder.mkdir(parents=True, exist_ok=True)
    heartbeat = Heartbeat(logger, "weights: %d of %d files", interval_s=5)
    index: dict[str, str] = {}
    for number, (part, named) in enumerate(parts):
        file = f"{part}.safetensors"
        save_file({name: _drawn(name, shape, dice) for name, shape in named.items()}, folder / file)
        index |= dict.fromkeys(named, file)
        heartbeat.beat(number + 1, len(parts))
    size = sum(2 * math.prod(shape) for _, named in parts for shape in named.values())
    content = {"metadata": {"total_size": size}, "weight_map": index}
    (folder / "model.safetensors.index.json").write_text(json.dumps(content, indent=1))
    # last: without it, a folder that is not complete is no model
    (folder / "config.json").write_text(json.dumps({**config, MARK: seed}, indent=1) + "\n")


def _drawn(name: str, shape: tuple[int, ...], dice: "torch.Generator") -> "torch.Tensor":
    """Return one parameter, in 16 bits on the CPU."""
    import torch

    values = torch.empty(shape, device=dice.device)
    if name.endswith("A_log"):
        values = torch.arange(1, shape[0] + 1, device=dice.device).log()
    elif name.endswith("dt_bias"):
        low, high = map(math.log, STEPS)
        steps = values.uniform_(low, high, generator=dice).exp()
        values = steps + torch.log(-torch.expm1(-steps))  # softplus of it is the step
    elif name.endswith((".D", "norm.weight", "norm_f.weight")):
        values.fill_(1)
    elif "conv1d" in name:
        values.uniform_(-0.5, 0.5, generator=dice)
    else:
        values.normal_(0, LINEAR_STD, generator=dice)
    return values.to(torch.bfloat16).cpu()
