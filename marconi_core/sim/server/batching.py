"""SGLang 0.5.16's scheduler: several requests at a time, batch by batch.

A batch computes prompts, or one token for each request that decodes. Which requests share a batch, and
from when on one finds what another leaves in the cache, depends on the order of events alone; the
steps of each request are the simulator's. First come, first served. How long batches take is a matter
for `timing`.

Two habits of SGLang are left out: when as many requests run as may, it decodes once more before a place
that became free is filled; and of the KVs that running requests may still need it reserves a part
that it estimates, here all.
"""

from collections import deque
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from marconi_core.errors import PolicyError
from marconi_core.sim.server.engine import Running, ServerSimulator
from marconi_core.sim.server.legacy import LegacyServerSimulator
from marconi_core.sim.server.lengths import check_lengths
from marconi_core.sim.server.tree import Tokens
from marconi_core.sim.server.tuning import Following, OnlineTuner

MOST_RESERVED = 4096
"""Output tokens of a request for which SGLang keeps KV slots free, at most."""

MOST_PREFILLED = 16_384
"""Prompt tokens after which a batch is full when chunked prefill is off (`--max-prefill-tokens`)."""


@dataclass(eq=False)
class Request:
    """A request and how far it came.

    Attributes:
        name: the caller's.
        running: what the cache knows of it; None while it waits.
        launched: tokens that the model has computed, or is computing.
        seen: output tokens that the scheduler has seen.
    """

    name: Any
    prompt: Tokens
    output: Tokens
    running: Running | None = None
    launched: int = 0
    seen: int = 0

    @property
    def finished(self) -> bool:
        return self.seen == len(self.output)

    @property
    def reserved(self) -> int:
        """KV slots that are kept free for its output."""
        return min(len(self.output) - self.seen, MOST_RESERVED)


class Chunk(NamedTuple):
    """A part of a prompt that a batch computes.

    Attributes:
        end: the request's tokens before are computed afterwards.
        start: those before were already.
    """

    request: Request
    start: int
    end: int

    @property
    def last(self) -> bool:
        """The prompt ends with it, so that it gives the first output token."""
        return self.end == len(self.request.prompt)


class Batch(NamedTuple):
    """What is launched at once.

    Attributes:
        chunks: of prompts; none if the batch decodes.
        decoding: requests that get a further token.
    """

    chunks: list[Chunk]
    decoding: list[Request]


class Step(NamedTuple):
    """An iteration of the scheduler.

    Attributes:
        launched: a batch, if there was anything to launch.
        seen: the batch whose results were seen, if there was one. With overlap
            (`ServerSimulator.overlap`) the one before, else the same.
        served: requests that got a token by it.
    """

    launched: Batch | None
    seen: Batch | None
    served: list[Request]


class BatchingServer:
    """Serves several requests at a time.

    Attributes:
        simulator: the cache and its policy.
        most_running: requests at a time.
        waiting: requests that have not started.
    """

    def __init__(
        self,
        simulator: ServerSimulator,
        most_running: int,
        following: Following | None = None,
    ) -> None:
        """Start with an idle server.

        Args:
            following: have alpha tuned, by a tuner that sees each request when it ends.

        Raises:
            PolicyError: the release runs its batches in another way; no request may run.
        """
        if isinstance(simulator, LegacyServerSimulator):
            raise PolicyError("batches are those of SGLang 0.5.16, not of 0.5.6.post2")
        if most_running < 1:
            raise PolicyError(f"{most_running} requests at a time are impossible")
        self.simulator, self.most_running = simulator, most_running
        self._following = following
        self.flush()

    def flush(self) -> None:
        """Forget everything: what is cached, requests, and an alpha that was tuned."""
        self.simulator.flush()
        self._tuner = None
        if self._following is not None:
            self._tuner = OnlineTuner(self._following)
            self.simulator.set_alpha(self._tuner.alpha)
        self.waiting: deque[Request] = deque()
        self._running: list[Request] = []
        self._cut: Request | None = None  # between two chunks of its prompt
        self._last: Batch | None = None  # launched
        self._unseen: Batch | None = None

    def serve(self, prompt: ArrayLike, output: ArrayLike) -> int:
        """Serve one request on an idle server; return its cached tokens.

        Raises:
            PolicyError: the server would never start it.
        """
        request = self.submit("", prompt, output)
        while self.step() != NOTHING:
            pass
        return _started(request).hit

    def submit(self, name: Any, prompt: ArrayLike, output: ArrayLike) -> Request:
        """Queue a request.

        Args:
            name: for the caller, and for errors.

        Raises:
            PolicyError: the server would never start it.
        """
        request = Request(name, np.asarray(prompt, np.int64), np.asarray(output, np.int64))
        check_lengths(len(request.prompt), len(request.output))
        self.simulator.check_fits(name, len(request.prompt) + len(request.output))
        self.waiting.append(request)
        return request

    def abort(self, request: Request) -> None:
        """End a request: at once if it waits, with its next token if it runs."""
        if request in self.waiting:
            self.waiting.remove(request)
        elif not request.finished:
            request.output = request.output[: request.seen + 1]

    def step(self) -> Step:
        """Launch the next batch, and see the results that are due.

        Raises:
            PolicyError: the KV pool is too small for the requests that run.
        """
        launched = seen = self._launch()
        if self.simulator.overlap:
            seen, self._unseen = self._unseen, launched
        return Step(launched, seen, [] if seen is None else self._take_in(seen))

    def _launch(self) -> Batch | None:
        """Launch prompts if any can start or go on, else a decoding step."""
        if self._cut is not None:
            self.simulator.cache_unfinished(_started(self._cut))
        if self._last is not None:
            self._running += [chunk.request for chunk in self._last.chunks if chunk.last]
        self._running = [request for request in self._running if not request.finished]
        chunks = self._prefill()
        batch = Batch(chunks, [] if chunks else self._decode())
        assert any(batch) or not self.waiting, "an idle server refuses a request that fits"
        self._last = batch if any(batch) else None
        return self._last

    def _take_in(self, batch: Batch) -> list[Request]:
        """See the results of a batch; return the requests that got a token by it."""
        requests = [chunk.request for chunk in batch.chunks if chunk.last] + batch.decoding
        requests = [request for request in requests if not request.finished]
        for request in requests:
            running = _started(request)
            request.seen += 1
            if batch.decoding:
                self.simulator.step_seen(running, request.launched)
            if request.finished:
                sequence = np.concatenate((request.prompt, request.output))
                self.simulator.finish(running, sequence[: request.launched])
                self._tune(request)
            elif batch.chunks:
                self.simulator.cache_unfinished(running)
        return requests

    def _tune(self, request: Request) -> None:
        """A request has ended; maybe another alpha is better now."""
        if self._tuner is not None:
            self._tuner.observe(request.prompt, request.output, self.simulator.alpha)
            self.simulator.set_alpha(self._tuner.alpha)

    def _prefill(self) -> list[Chunk]:
        """Launch parts of prompts: the one that was cut goes on, then those that wait."""
        budget = _Budget(self.simulator, self._running)
        chunks = []
        if self._cut is not None:
            chunks.append(budget.go_on(self._cut))
            if chunks[-1].last:
                self._cut = None
        while self.waiting and len(self._running) + len(chunks) < self.most_running:
            request = self.waiting[0]
            running = self.simulator.look_up(request.prompt)
            end = budget.end_of_first_chunk(request, running, self._cut is not None)
            if end is None:
                self.simulator.refuse(running)
                break
            request.running = running
            self.simulator.served += 1
            self.simulator.start(running)
            chunks.append(budget.take(Chunk(self.waiting.popleft(), running.computed, end)))
            if not chunks[-1].last:
                self._cut = request
            if budget.spent:
                break
        if chunks:
            self.simulator.launch([(_started(chunk.request), chunk.end) for chunk in chunks])
            for chunk in chunks:
                chunk.request.launched = chunk.end
        return chunks

    def _decode(self) -> list[Request]:
        """Launch a step of all requests that decode."""
        if count := len(self._running):
            if self.simulator.room < count:
                raise PolicyError(
                    f"{self.simulator.sizes.kv_tokens} KV tokens are too few for {count} requests "
                    "that decode; SGLang would start one of them over, which is not simulated"
                )
            self.simulator.take_tokens(count)
            for request in self._running:
                request.launched += 1
        return list(self._running)


class _Budget:
    """What prompts of a batch may still take.

    Attributes:
        chunk: prompt tokens of the batch.
        reserved: KV slots spoken for, outputs to come included.
        taken: KV slots that the batch takes.
    """

    def __init__(self, simulator: ServerSimulator, running: list[Request]) -> None:
        self._simulator = simulator
        self._chunked = simulator.chunk is not None
        self.chunk = MOST_PREFILLED if simulator.chunk is None else simulator.chunk
        self.reserved = sum(request.reserved for request in running)
        self.taken = 0

    @property
    def spent(self) -> bool:
        """Nothing more can be added."""
        room = self._simulator.room
        return room <= max(self.reserved, self.taken) or self.chunk <= 0

    def go_on(self, request: Request) -> Chunk:
        """Take the next chunk of a prompt that was cut; it cannot wait."""
        running = _started(request)
        cut = self._simulator.cut(running) - running.computed
        cut = min(cut, self.chunk) if self._chunked else cut
        room = self._simulator.room - self.reserved
        length = min(cut, room) if room > 0 else cut
        return self.take(Chunk(request, running.computed, running.computed + length))

    def end_of_first_chunk(
        self, request: Request, running: Running, another_is_cut: bool
    ) -> int | None:
        """Return where the first chunk of a prompt ends; None if the request has to wait."""
        start, length = running.computed, len(request.prompt)
        needed = length - start + request.reserved + 1
        if needed >= self._simulator.room_beside(running) - self.reserved:
            return None
        end = self._simulator.cut(running)
        if self._chunked:
            end = min(end, start + self.chunk)
        elif self.taken and length - start >= self.chunk:
            return None
        if end <= start or (end < length and another_is_cut):
            return None  # at most one prompt can be between two chunks
        return end

    def take(self, chunk: Chunk) -> Chunk:
        """Charge the budget with a chunk, and with what its request will take later.

        A prompt that is cut for want of tokens in the batch ends the batch, so that SGLang need not
        reserve its rest. One that is cut at its branch point lets others in.
        """
        length = chunk.end - chunk.start
        self.reserved += length + 1
        if chunk.end == self._simulator.cut(_started(chunk.request)):
            self.reserved += len(chunk.request.prompt) - chunk.end + chunk.request.reserved
        self.taken += length + 1
        self.chunk -= length
        return chunk


NOTHING = Step(None, None, [])
"""Nothing was to do."""


def _started(request: Request) -> Running:
    assert request.running is not None
    return request.running
