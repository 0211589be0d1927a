"""What is lost when a server gets texts instead of token ids.

A server encodes each prompt as a whole, and caches what it encoded and generated. Where the tokens of a
reply, generated, and of the same text, encoded with what surrounds it, differ, the cached prefix ends
early. A state cannot be cut to the common part as KVs can, so a few tokens may cost a whole turn.

Prompts are re-encoded as the two text interfaces make a server do it:

* ``completions``: one text, all messages one behind the other, special tokens left out;
* ``chat``: messages one by one, with a special token between them, as chat templates have it. (The
  template itself adds the same tokens to every message and is left out.)
"""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from marconi_core.sim.server import ADMISSION_ONLY, STOCK, PoolSizes, ServerPolicy, ServerSimulator
from marconi_core.traces.describe import shared_prefixes
from marconi_core.traces.trace import Request, Trace
from marconi_core.traces.vocabulary import Part, Vocabulary

UNLIMITED = PoolSizes(kv_tokens=2**40, states=2**30)


class Alignment(NamedTuple):
    """How much of a trace's prompts a server with unlimited memory knows already.

    Attributes:
        interface: ``token ids``, ``completions`` or ``chat``.
        prompt_tokens: over all requests.
        known: part of them that an earlier prompt with its reply begins with, 0 to 1.
        stock_hits, marconi_hits: part of them that SGLang 0.5.16 (`no_buffer`) has a state for, stock
            and with Marconi's admission.
        longer: requests that have more tokens to compute than with token ids.
        extra_tokens: computed tokens beyond those with token ids, over all requests.
    """

    interface: str
    prompt_tokens: int
    known: float
    stock_hits: float
    marconi_hits: float
    longer: int
    extra_tokens: int


def alignments(
    trace: Trace, retokenized: Trace, source: Vocabulary, target: Vocabulary
) -> Iterator[Alignment]:
    """Yield a row for token ids, completions and chat.

    Args:
        trace: in the vocabulary `source`.
        retokenized: the same trace in `target`.
    """
    computed = retokenized.n_in - _known(retokenized)
    yield _alignment("token ids", retokenized, computed)
    for interface in INTERFACES:
        yield _alignment(interface, as_texts(trace, source, target, interface), computed)


def as_texts(trace: Trace, source: Vocabulary, target: Vocabulary, interface: str) -> Trace:
    """Return the trace as a server sees it that is sent texts.

    Args:
        interface: a key of `INTERFACES`. Replies, which the model generates, are encoded apart.
    """
    message = INTERFACES[interface]

    def parts(i: int, node: NDArray[np.int32], start: int) -> list[Part]:
        tokens = trace.tree.sequence(node[i])
        return message(source.parts(tokens[start:], int(tokens[start - 1]) if start else None))

    requests = range(len(trace))
    prompts = target.encode(parts(i, trace.in_node, 0) for i in requests)
    replies = target.encode(parts(i, trace.out_node, int(trace.n_in[i])) for i in requests)
    return Trace.build(
        Request(
            trace.session_ids[trace.session[i]],
            int(trace.turn[i]),
            float(trace.ts[i]),
            prompt,
            reply,
        )
        for i, prompt, reply in zip(requests, prompts, replies, strict=True)
    )


def _completion(message: list[Part]) -> list[Part]:
    return [b"".join(part for part in message if isinstance(part, bytes))]


def _chat(message: list[Part]) -> list[Part]:
    return message


INTERFACES: Mapping[str, Callable[[list[Part]], list[Part]]] = {
    "completions": _completion,
    "chat": _chat,
}
"""What a server makes of decoded messages."""


def _alignment(interface: str, trace: Trace, computed_from_ids: NDArray[np.int64]) -> Alignment:
    known = _known(trace)
    extra = (trace.n_in - known) - computed_from_ids
    prompt_tokens = int(trace.n_in.sum())
    return Alignment(
        interface=interface,
        prompt_tokens=prompt_tokens,
        known=int(known.sum()) / prompt_tokens,
        stock_hits=_hits(trace, STOCK) / prompt_tokens,
        marconi_hits=_hits(trace, ADMISSION_ONLY) / prompt_tokens,
        longer=int((extra > 0).sum()),
        extra_tokens=int(extra.sum()),
    )


def _known(trace: Trace) -> NDArray[np.int64]:
    """Return int64[n]: tokens of each prompt with which an earlier prompt with its reply begins."""
    return np.maximum(*shared_prefixes(trace))


def _hits(trace: Trace, policy: ServerPolicy) -> int:
    simulator = ServerSimulator(UNLIMITED, policy)
    served = (
        simulator.serve(trace.input_tokens(i), trace.output_tokens(i)) for i in range(len(trace))
    )
    return sum(request.hit for request in served)
