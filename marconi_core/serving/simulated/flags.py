"""SGLang's command line, as far as it decides what is cached, and the server that it stands for."""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from marconi_core.errors import PolicyError
from marconi_core.models import load_hybrid_model
from marconi_core.models.cost import CostModel
from marconi_core.models.latency import BatchTimes
from marconi_core.serving.errors import ServingError
from marconi_core.serving.recorded_times import REFERENCE_GPU, batch_times, latest_ttft
from marconi_core.serving.spec import STRATEGIES, ServerSpec, plugin_variant
from marconi_core.sim.server import (
    STOCK,
    PoolSizes,
    ServerPolicy,
    most_running,
    server_simulator,
)
from marconi_core.sim.server.batching import BatchingServer
from marconi_core.sim.server.settings import MarconiSettings, add_arguments
from marconi_core.sim.server.timing import TimedServer
from marconi_core.sim.server.tuning import Following
from marconi_core.sim.server.uncached import UncachedServerSimulator

SGLANG = "0.5.16"  # the release whose scheduler and cache are simulated

# what SGLang takes by default with Nemotron-H 8B on an H100 (resources/recorded)
H100_STATES, H100_KV_TOKENS = 253, 1_758_519


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ServingError(f"simulated server: {message}")


def command_line() -> argparse.ArgumentParser:
    """Return the parser of the command line; it raises ServingError."""
    parser = _Parser(
        prog="python -m marconi_core.serving.simulated", allow_abbrev=False,
        description="A server without a GPU, with SGLang's options and API.",
    )  # fmt: skip
    parser.add_argument(
        "--model-path", required=True, help="folder with config.json, or a known model"
    )
    parser.add_argument("--served-model-name", default="simulated")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=30000)
    parser.add_argument("--context-length", type=int, default=33_000)
    parser.add_argument("--max-mamba-cache-size", type=int, default=H100_STATES)
    parser.add_argument("--max-total-tokens", type=int, default=H100_KV_TOKENS)
    parser.add_argument("--max-running-requests", type=int)
    parser.add_argument("--tensor-parallel-size", type=int, default=1)
    parser.add_argument("--chunked-prefill-size", type=int, default=8192)
    parser.add_argument("--mamba-ssm-dtype")
    parser.add_argument("--disable-radix-cache", action="store_true")
    parser.add_argument("--mamba-radix-cache-strategy", choices=STRATEGIES, default="extra_buffer")
    parser.add_argument("--enable-custom-logit-processor", action="store_true")
    add_arguments(parser)
    parser.add_argument(
        "--simulated-gpu", default=REFERENCE_GPU, metavar="NAME",
        help="whose recorded times to first token are taken; or DATE-DEVICE of a recording "
        "(resources/recorded)",
    )  # fmt: skip
    parser.add_argument(
        "--simulated-speed", type=float, default=1.0, help="how many times faster than that GPU"
    )
    parser.add_argument(
        "--simulated-fault", action="append", default=[], metavar="KIND@REQUEST",
        help="error, disconnect, hang or die at the N-th call of /generate",
    )  # fmt: skip
    return parser


def parsed(words: Sequence[str] | None = None) -> tuple[argparse.Namespace, list[str]]:
    """Return the options, and the words of SGLang's that mean nothing here.

    Args:
        words: of the command line; None for this process's own.

    Raises:
        ServingError: a value is wrong, or an option is unknown that is none of SGLang's.
    """
    options, others = command_line().parse_known_args(words)
    for word in others:
        if word.startswith(("--simulated", "--marconi")):
            raise ServingError(f"simulated server: unknown option {word}")
    if not 0 < options.simulated_speed < float("inf"):
        raise ServingError(
            f"simulated server: --simulated-speed is {options.simulated_speed:g}; it must be above 0"
        )
    return options, others


def simulated_server(
    options: argparse.Namespace, model: CostModel, sizes: PoolSizes
) -> BatchingServer:
    """Return what a server that is started with these options does.

    Raises:
        PolicyError: the pools are too small.
    """
    chunk = None if options.chunked_prefill_size == -1 else options.chunked_prefill_size
    most = running_requests(options, sizes.states)
    if options.disable_radix_cache:
        return BatchingServer(UncachedServerSimulator(sizes, chunk=chunk), most)
    strategy, policy = options.mamba_radix_cache_strategy, server_policy(options)
    settings = MarconiSettings.from_namespace(options)
    following = None
    if options.enable_marconi and settings.tuned:
        following = Following(sizes, policy, model, chunk, strategy, settings.method)
    simulator = server_simulator(strategy, sizes, policy, model, chunk)
    return BatchingServer(simulator, most, following)


def server_policy(options: argparse.Namespace) -> ServerPolicy:
    """Return what a server that is started with these options does."""
    if not options.enable_marconi:
        return STOCK
    settings = MarconiSettings.from_namespace(options)
    return settings.policy(concurrent=options.max_running_requests != 1)


def running_requests(options: argparse.Namespace, states: int) -> int:
    """Return how many requests run at a time on a server that is started with these options."""
    if options.disable_radix_cache:
        most = states
    else:
        most = most_running(options.mamba_radix_cache_strategy, states, server_policy(options))
    return min(most, options.max_running_requests or most)


def times_of(options: argparse.Namespace) -> BatchTimes:
    """Return how long batches take on a server that is started with these options.

    Raises:
        NoTimesError: this model was not recorded on such GPUs.
    """
    strategy = "no_cache" if options.disable_radix_cache else options.mamba_radix_cache_strategy
    variants = [strategy]
    if options.enable_marconi:  # else stock's, which are longer under extra_buffer
        variants.insert(0, plugin_variant("marconi", strategy))
    recording = latest_ttft(
        *variants,
        model=options.model_path,
        where=options.simulated_gpu,
        gpus=options.tensor_parallel_size,
    )
    return batch_times(recording)


def times_of_spec(spec: ServerSpec, where: str | None = None) -> BatchTimes:
    """Return how long batches take on a simulated server, before it is started.

    Args:
        where: see `server_of`.

    Raises:
        NoTimesError: no times were recorded of such a server.
        ServingError: a wrong flag.
    """
    options, _ = parsed(spec.arguments(port=0))
    options.simulated_gpu = where or options.simulated_gpu
    return times_of(options)


def untimed_server(
    spec: ServerSpec,
    sizes: PoolSizes | None = None,
    running: int | None = None,
    settings: Mapping[str, Any] | None = None,
) -> BatchingServer:
    """Return what a live server does, as the simulator predicts it.

    Args:
        sizes: of the pools that the server has made, whatever the spec asks for; None where there is
            no server: then an H100's, as far as the spec leaves them open.
        running: requests that it lets run at a time; None for what SGLang makes of the sizes.
        settings: of the plug-in, as the server has told them; None for those that it has today.

    Raises:
        ModelError: the layers of the model are not known: it is on the hub only, and none of ours.
        PolicyError: the pools are too small, or another release of SGLang is asked for.
    """
    if spec.sglang != SGLANG:
        raise PolicyError(
            f"sglang: only SGLang {SGLANG} is simulated batch by batch, not {spec.sglang}"
        )
    options, _ = parsed(spec.arguments(port=0))
    options.max_running_requests = running or options.max_running_requests
    if settings is not None:  # servers that had no such option kept a state at every branch point
        options.marconi_branch_gain = settings.get("branch_gain", 1)
    sizes = sizes or PoolSizes(options.max_total_tokens, options.max_mamba_cache_size)
    model = load_hybrid_model(spec.model, ssm_dtype=spec.ssm_dtype)
    return simulated_server(options, model, sizes)


def server_of(
    spec: ServerSpec,
    sizes: PoolSizes | None = None,
    running: int | None = None,
    settings: Mapping[str, Any] | None = None,
    where: str | None = None,
) -> TimedServer:
    """Return what a live server does, and when, as the simulator predicts it; see `untimed_server`.

    Args:
        where: its GPU, or the occasion of its recording; None for what the spec simulates.

    Raises:
        NoTimesError: no times of this model were recorded on this GPU.
        ModelError, PolicyError: see `untimed_server`.
    """
    server = untimed_server(spec, sizes, running, settings)
    return TimedServer(server, times_of_spec(spec, where))
