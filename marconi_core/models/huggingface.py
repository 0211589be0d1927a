"""The paper's five numbers from a Hugging Face ``config.json`` of a hybrid model."""

from collections.abc import Callable, Mapping
from typing import Any

from marconi_core.errors import ModelError
from marconi_core.models.paper import Geometry

Config = Mapping[str, Any]


def _nemotron_h(config: Config) -> Geometry:
    """One letter a layer: M is Mamba-2, * attention, - MLP, E mixture of experts."""
    pattern = config["hybrid_override_pattern"]
    return Geometry(
        num_ssm_layers=pattern.count("M"),
        num_attn_layers=pattern.count("*"),
        num_mlp_layers=pattern.count("-") + pattern.count("E"),
        d=config["hidden_size"],
        n=config["ssm_state_size"],
    )


def _jamba(config: Config) -> Geometry:
    """Attention in every `attn_layer_period`-th layer, an MLP or experts in every layer."""
    layers, period = config["num_hidden_layers"], config["attn_layer_period"]
    attention = sum(i % period == config["attn_layer_offset"] for i in range(layers))
    return Geometry(
        layers - attention, attention, layers, config["hidden_size"], config["mamba_d_state"]
    )


def _falcon_h1(config: Config) -> Geometry:
    """Every layer runs attention and Mamba-2 side by side, then an MLP."""
    layers = config["num_hidden_layers"]
    return Geometry(layers, layers, layers, config["hidden_size"], config["mamba_d_state"])


def _granite_hybrid(config: Config) -> Geometry:
    """A list names each layer `mamba` or `attention`; an MLP or experts in every layer."""
    kinds = config.get("layer_types") or config["layers_block_type"]
    attention = kinds.count("attention")
    return Geometry(
        kinds.count("mamba"), attention, len(kinds), config["hidden_size"], config["mamba_d_state"]
    )


def _qwen_linear(config: Config) -> Geometry:
    """Gated delta-net layers with full attention in between; an MLP or experts in every layer."""
    layers = config["num_hidden_layers"]
    kinds = config.get("layer_types")
    if kinds:
        attention = kinds.count("full_attention")
    else:
        attention = layers // config.get("full_attention_interval", 4)
    return Geometry(
        layers - attention, attention, layers, config["hidden_size"], config["linear_key_head_dim"]
    )


FAMILIES: dict[str, Callable[[Config], Geometry]] = {
    "nemotron_h": _nemotron_h,
    "jamba": _jamba,
    "falcon_h1": _falcon_h1,
    "granitemoehybrid": _granite_hybrid,
    "qwen3_next": _qwen_linear,
    "qwen3_5": _qwen_linear,
    "qwen3_5_moe": _qwen_linear,
}


def geometry_from_config(config: Config, source: str) -> Geometry:
    """Return the five numbers of a model.

    Args:
        config: the parsed ``config.json``.
        source: where it came from, for messages.

    Raises:
        ModelError: the family is unknown, or a field it needs is missing.
    """
    config = config.get("text_config", config)
    family = str(config.get("model_type", "")).removesuffix("_text")
    if family not in FAMILIES:
        raise ModelError(
            f"{source}: model_type '{family}' is not a known hybrid family "
            f"({', '.join(FAMILIES)}); give a JSON file with {', '.join(Geometry._fields)} instead"
        )
    try:
        return FAMILIES[family](config)
    except KeyError as error:
        raise ModelError(f"{source}: a {family} config needs the key {error}") from None
