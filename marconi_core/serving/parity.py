"""Predicted against served: the server simulator beside a live server, request by request.

One request at a time, greedy, on a server whose cache was emptied first. Every reply takes the place of
the recorded one in the later prompts of its session, so that lengths and prefix structure stay those of
the trace and the server's own tokens are what both sides cache.
"""

import logging
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from marconi_core.progress import Heartbeat
from marconi_core.serving.client import Client
from marconi_core.serving.errors import ServingError
from marconi_core.sim.server import ServerSimulator
from marconi_core.traces.trace import Trace

logger = logging.getLogger(__name__)

Tokens = NDArray[np.int32]

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


def server_fields(states: int, kv_tokens: int, alpha: float | None) -> list[str]:
    """Return the fields of a `ServerSpec` that the simulator stands for, as ``FIELD=VALUE``.

    Args:
        alpha: of Marconi; None for stock SGLang.
    """
    flags = "--skip-server-warmup"
    if alpha is not None:
        flags += f" --enable-marconi --marconi-eff-weight {alpha}"
    return [
        f"max_mamba_cache_size={states}",
        f"max_total_tokens={kv_tokens}",
        "max_running_requests=1",
        f"chunked_prefill_size={PREFILL_CHUNK}",
        f"extra_flags={flags}",
    ]


def compare(
    client: Client, simulator: ServerSimulator, trace: Trace, requests: int
) -> Iterator[ParityRow]:
    """Serve the first `requests` requests of a trace on both; yield a row for each.

    Args:
        client: a server for token ids, alone in use, one request at a time.
        simulator: with the server's pool sizes, chunk and policy.
        trace: prompts that do not continue what their session had before are sent as recorded.

    Raises:
        ServingError: a request failed; the rows so far have been yielded.
    """
    heartbeat = Heartbeat(logger, "parity: %d of %d requests, %d differ", interval_s=10)
    client.flush()
    simulator.flush()
    recorded: dict[int, Tokens] = {}  # by session, what the trace has of its history
    generated: dict[int, Tokens] = {}  # by session, the same with the server's replies
    differ = 0
    for i in range(min(requests, len(trace))):
        session = int(trace.session[i])
        prompt = _with_replies(trace.input_tokens(i), recorded.get(session), generated.get(session))
        outputs = int(trace.n_out[i])
        reply = client.generate(prompt.tolist(), outputs)
        output = np.array(reply.output_ids, np.int32)
        if len(output) != outputs:
            raise ServingError(
                f"request {i}: asked for {outputs} tokens, {len(output)} came back; the server must "
                "send token ids (--skip-tokenizer-init)"
            )
        predicted = simulator.serve(prompt, output).hit
        recorded[session] = np.concatenate((trace.input_tokens(i), trace.output_tokens(i)))
        generated[session] = np.concatenate((prompt, output))
        differ += predicted != reply.cached_tokens
        heartbeat.beat(i + 1, requests, differ)
        yield ParityRow(
            i, len(prompt), outputs, predicted, reply.cached_tokens, round(1e3 * reply.ttft_s, 3)
        )


def _with_replies(prompt: Tokens, recorded: Tokens | None, generated: Tokens | None) -> Tokens:
    """Return a prompt whose recorded history is replaced by the generated one of equal length."""
    if recorded is None or generated is None:
        return prompt
    if not np.array_equal(prompt[: len(recorded)], recorded):
        return prompt
    return np.concatenate((generated, prompt[len(recorded) :]))
