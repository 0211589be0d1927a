"""The server's options, and what they cannot be combined with."""

from typing import Any

from marconi_sglang.checks import Refusal, check_arguments
from marconi_sglang.errors import UnsupportedSetting

from marconi_core.errors import MarconiError
from marconi_core.sim.server.settings import MarconiSettings, add_arguments

__all__ = ["add_arguments", "check", "exit_if_unsupported"]

REFUSALS = (
    Refusal(
        lambda arguments: not arguments.disable_overlap_schedule,
        "this SGLang caches states of hybrid models without overlap scheduling only; add "
        "--disable-overlap-schedule",
    ),
    Refusal(
        lambda arguments: arguments.enable_nsa_prefill_context_parallel,
        "--enable-nsa-prefill-context-parallel is not supported",
    ),
)
"""What this release adds to the refusals of `marconi_sglang`."""


def check(server_args: Any) -> None:
    """Check a server's arguments.

    Raises:
        UnsupportedSetting: one of them is not supported with Marconi.
        PolicyError: a value is out of range.
    """
    check_arguments(server_args)
    for refusal in REFUSALS:
        if refusal.applies(server_args):
            raise UnsupportedSetting(f"--enable-marconi: {refusal.reason}")
    MarconiSettings.from_namespace(server_args)


def exit_if_unsupported(server_args: Any) -> None:
    """Check a command line; end with one line on a mistake."""
    try:
        check(server_args)
    except MarconiError as error:
        raise SystemExit(str(error)) from None
