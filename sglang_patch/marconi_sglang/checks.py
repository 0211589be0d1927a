"""Settings under which the plug-in refuses to start, each with a reason and the way out."""

import argparse
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

from marconi_sglang import SGLANG_VERSION
from marconi_sglang.errors import UnsupportedSetting


class Refusal(NamedTuple):
    """A setting that is not supported: when, why, and what to do."""

    applies: Callable[[Any], bool]
    reason: str


def _set(name: str, but: Any = None) -> Callable[[Any], bool]:
    """Tell whether an argument is given: true, or not one of the harmless values."""
    return lambda arguments: getattr(arguments, name, None) not in (None, False, "", but)


REFUSALS = (
    Refusal(_set("disable_radix_cache"), "there is no prefix cache with --disable-radix-cache"),
    Refusal(
        _set("radix_cache_backend", "marconi"),
        "it is a radix cache of its own; leave --radix-cache-backend out",
    ),
    Refusal(_set("tp_size", 1), "tensor parallelism is not supported; use --tp-size 1"),
    Refusal(_set("pp_size", 1), "pipeline parallelism is not supported; use --pp-size 1"),
    Refusal(_set("attn_cp_size", 1), "context parallelism is not supported; use --attn-cp-size 1"),
    Refusal(_set("dcp_size", 1), "context parallelism is not supported; use --dcp-size 1"),
    Refusal(_set("enable_dp_attention"), "--enable-dp-attention is not supported"),
    Refusal(_set("page_size", 1), "states are kept at exact positions; use --page-size 1"),
    Refusal(
        _set("enable_hierarchical_cache"),
        "a hierarchical cache is not supported; leave --enable-hierarchical-cache out",
    ),
    Refusal(_set("enable_lmcache"), "--enable-lmcache is not supported"),
    Refusal(_set("enable_flexkv"), "--enable-flexkv is not supported"),
    Refusal(
        _set("speculative_algorithm"),
        "speculative decoding is not supported; leave --speculative-algorithm out",
    ),
    Refusal(
        _set("disaggregation_mode", "null"),
        "disaggregated prefill and decode are not supported; leave --disaggregation-mode out",
    ),
    Refusal(_set("enable_mixed_chunk"), "--enable-mixed-chunk is not supported"),
    Refusal(_set("enable_streaming_session"), "--enable-streaming-session is not supported"),
    Refusal(_set("enable_unified_memory"), "--enable-unified-memory is not supported"),
    Refusal(_set("enable_linear_replayssm"), "--enable-linear-replayssm is not supported"),
    Refusal(
        _set("enable_int8_mamba_checkpoint"), "--enable-int8-mamba-checkpoint is not supported"
    ),
    Refusal(
        _set("enable_deterministic_inference"),
        "--enable-deterministic-inference aligns prefill chunks, which must end at branch points",
    ),
    Refusal(_set("enable_pdmux"), "--enable-pdmux is not supported"),
    Refusal(
        _set("strip_thinking_cache"),
        "--strip-thinking-cache cuts KVs back behind the prompt, and no state can follow them",
    ),
    Refusal(_set("dllm_algorithm"), "diffusion models are not supported"),
    Refusal(
        lambda arguments: (
            getattr(arguments, "mamba_radix_cache_strategy", None) == "extra_buffer_lazy"
        ),
        "no track buffers are used at all; use --mamba-radix-cache-strategy extra_buffer or "
        "no_buffer instead of extra_buffer_lazy",
    ),
    Refusal(
        lambda arguments: (getattr(arguments, "radix_eviction_policy", None) or "lru") != "lru",
        "it evicts in its own way; leave --radix-eviction-policy out",
    ),
)


def check_version() -> None:
    """Check that the installed SGLang is the release the plug-in knows.

    Raises:
        UnsupportedSetting: it is another one.
    """
    try:
        found = version("sglang")
    except PackageNotFoundError:
        found = "an unknown release"
    if found != SGLANG_VERSION:
        raise UnsupportedSetting(
            f"--enable-marconi: this plug-in is for SGLang {SGLANG_VERSION}, and {found} is "
            f"installed; install sglang=={SGLANG_VERSION}"
        )


def check_arguments(arguments: argparse.Namespace | Any) -> None:
    """Check the server's arguments, before or after SGLang has resolved them.

    Raises:
        UnsupportedSetting: one of them is not supported.
    """
    for refusal in REFUSALS:
        if refusal.applies(arguments):
            raise UnsupportedSetting(f"--enable-marconi: {refusal.reason}")


def check_model(is_hybrid_ssm: bool, is_hybrid_swa: bool, model: str) -> None:
    """Check that the model has what Marconi caches.

    Raises:
        UnsupportedSetting: it has not.
    """
    if not is_hybrid_ssm:
        raise UnsupportedSetting(
            f"--enable-marconi: {model} has no SSM or linear-attention layers, whose states Marconi "
            "manages; leave --enable-marconi out, SGLang's own cache serves it well"
        )
    if is_hybrid_swa:
        raise UnsupportedSetting(
            f"--enable-marconi: {model} has sliding-window layers, which are not supported"
        )
