"""Predicted against served: the server simulator beside a live server, request by request.

One request at a time, greedy, on a server whose cache was emptied first. Replies take the place of
recorded outputs (see `traces.prompts`), so that the server's own tokens are what both sides cache.
"""

import logging
import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from marconi_core.progress import Heartbeat
from marconi_core.serving.client import Client
from marconi_core.serving.errors import ServingError
from marconi_core.serving.simulated.flags import untimed_server
from marconi_core.serving.spec import ServerSpec
from marconi_core.sim.server import PoolSizes
from marconi_core.sim.server.batching import BatchingServer
from marconi_core.traces.prompts import Prompts
from marconi_core.traces.trace import Trace

logger = logging.getLogger(__name__)

PREFILL_CHUNK = 8192
"""Tokens of a prefill chunk, on both sides."""


class ParityRow(NamedTuple):
    """One request, on both sides.

    Attributes:
        request: its number in the trace, from 0.
        prompt_tokens, output_tokens: its lengths.
        predicted_tokens: prompt tokens that the simulator serves from its cache.
        cached_tokens: prompt tokens that the server served from its cache.
        ttft_ms: time to first token on the client, in milliseconds.
    """

    request: int
    prompt_tokens: int
    output_tokens: int
    predicted_tokens: int
    cached_tokens: int
    ttft_ms: float


def differing(rows: Iterable[ParityRow]) -> int:
    """Return how many requests hit something else than was predicted."""
    return sum(row.predicted_tokens != row.cached_tokens for row in rows)


def server_fields(states: int, kv_tokens: int) -> dict[str, object]:
    """Return the fields of a `ServerSpec` that the simulator stands for."""
    return {
        "max_mamba_cache_size": states,
        "max_total_tokens": kv_tokens,
        "max_running_requests": 1,
        "chunked_prefill_size": PREFILL_CHUNK,
        "extra_flags": ("--skip-server-warmup",),
    }


def predicted_server(spec: ServerSpec, pools: PoolSizes | None = None) -> BatchingServer:
    """Return what is to serve the same requests as a server.

    Args:
        pools: as the server has them; None for those that it is to have.

    Raises:
        ServingError: the server tunes its alpha, at times that no one can predict.
        ModelError, PolicyError: see `untimed_server`.
    """
    if spec.tuned:
        raise ServingError(
            f"{spec.variant}: when a tuned alpha changes is not predictable; --set alpha=VALUE"
        )
    return untimed_server(spec, pools)


def compare(
    client: Client,
    predicted: BatchingServer,
    trace: Trace,
    requests: int,
    deadline_s: float | None = None,
) -> Iterator[ParityRow]:
    """Serve the first `requests` requests of a trace on both; yield a row for each.

    Args:
        client: a server for token ids, alone in use, one request at a time.
        predicted: what the server should do.
        trace: what to serve.
        deadline_s: send no request later than this many seconds after the first.

    Raises:
        ServingError: a request failed; the rows so far have been yielded.
    """
    heartbeat = Heartbeat(logger, "parity: %d of %d requests, %d differ", interval_s=10)
    client.flush()
    predicted.flush()
    prompts = Prompts(trace)
    differ = 0
    start = time.monotonic()
    for i in range(min(requests, len(trace))):
        if deadline_s is not None and time.monotonic() - start >= deadline_s:
            logger.info("stopped after %d requests: %.0f s are over", i, deadline_s)
            return
        prompt = prompts.tokens(i)
        outputs = int(trace.n_out[i])
        reply = client.generate(prompt.tolist(), outputs)
        output = np.array(reply.output_ids, np.int32)
        if len(output) != outputs:
            raise ServingError(
                f"request {i}: asked for {outputs} tokens, {len(output)} came back; the server must "
                "send token ids (--skip-tokenizer-init)"
            )
        hit = predicted.serve(prompt, output)
        prompts.replace(i, output)
        differ += hit != reply.cached_tokens
        heartbeat.beat(i + 1, requests, differ)
        yield ParityRow(
            i, len(prompt), outputs, hit, reply.cached_tokens, round(1e3 * reply.ttft_s, 3)
        )
