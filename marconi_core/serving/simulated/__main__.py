"""Command line: that of `sglang.launch_server`, as far as it decides what is cached."""

import argparse
import logging
import sys
from collections.abc import Sequence
from typing import Any

from aiohttp import web

from marconi_core.errors import MarconiError
from marconi_core.models import load_hybrid_model
from marconi_core.models.hybrid import HybridModel
from marconi_core.serving.memory import GIB
from marconi_core.serving.simulated.app import SimulatedServer
from marconi_core.serving.simulated.engine import Engine
from marconi_core.serving.simulated.faults import Fault
from marconi_core.serving.simulated.flags import (
    SGLANG,
    parsed,
    running_requests,
    simulated_server,
    times_of,
)
from marconi_core.sim.server import PoolSizes


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until the process is ended; return 2 after one message if it cannot."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        options, others = parsed(arguments)
        print(f"simulated server; without meaning here: {' '.join(others) or 'nothing'}")
        server = _server(options)
    except MarconiError as error:
        print(f"marconi: {error}", file=sys.stderr)
        return 2
    web.run_app(
        server.app(), host=options.host, port=options.port, access_log=None, print=None,
        handler_cancellation=True, shutdown_timeout=1,
    )  # fmt: skip
    return 0


def _server(options: argparse.Namespace) -> SimulatedServer:
    model = load_hybrid_model(options.model_path, ssm_dtype=options.mamba_ssm_dtype)
    sizes = PoolSizes(options.max_total_tokens, options.max_mamba_cache_size)
    _print_pools(options, model, sizes)
    server = simulated_server(options, model, sizes)
    return SimulatedServer(
        Engine(server, times_of(options), options.context_length, options.simulated_speed),
        options.served_model_name,
        _info(options, model, sizes),
        forcing=options.enable_custom_logit_processor,
        faults=[Fault.of(text) for text in options.simulated_fault],
    )


def _print_pools(options: argparse.Namespace, model: HybridModel, sizes: PoolSizes) -> None:
    """Print what SGLang's log says of pools and cache; `memory` and `smoke` read it."""
    states_gib = model.state_bytes * (sizes.states + 1) / GIB
    kv_gib = model.kv_bytes_per_token * (sizes.kv_tokens + 1) / GIB
    print(
        f"Mamba Cache is allocated. max_mamba_cache_size: {sizes.states}, "
        f"conv_state size: 0.00GB, ssm_state size: {states_gib:.2f}GB "
    )
    print(
        f"KV Cache is allocated. dtype: torch.bfloat16, #tokens: {sizes.kv_tokens}, "
        f"K size: {kv_gib / 2:.2f} GB, V size: {kv_gib / 2:.2f} GB"
    )
    source, cache = "default", "UnifiedRadixCache"
    if options.disable_radix_cache:
        cache = "ChunkCache"
    elif options.enable_marconi:
        source, cache = "registered('marconi')", "MarconiRadixCache"
    print(
        f"Tree cache initialized: source={source} impl={cache} simulated hybrid_ssm=True",
        flush=True,
    )


def _info(options: argparse.Namespace, model: HybridModel, sizes: PoolSizes) -> dict[str, Any]:
    memory = {
        "weight": 0.0,
        "kvcache": round(model.kv_bytes_per_token * sizes.kv_tokens / GIB, 2),
        "token_capacity": sizes.kv_tokens,
        "graph": 0.0,
    }
    state = {
        "memory_usage": memory,
        "effective_max_running_requests_per_dp": running_requests(options, sizes.states),
    }
    settings = {key: value for key, value in vars(options).items() if key != "model_path"}
    return {"version": SGLANG, "simulated": True, **settings, "internal_states": [state]}


if __name__ == "__main__":
    sys.exit(main())
