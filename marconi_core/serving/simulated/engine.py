"""The simulated server in real time, for as many clients as come.

`TimedServer` says when the next tokens are there; they are handed out when the wall clock is.
"""

import asyncio
import logging
import random
import zlib
from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

from marconi_core.models.latency import BatchTimes
from marconi_core.sim.server.batching import BatchingServer, Request
from marconi_core.sim.server.lengths import check_lengths
from marconi_core.sim.server.timing import TimedServer

logger = logging.getLogger(__name__)

OUTPUT_IDS = range(1_000, 100_000)


class Progress(NamedTuple):
    """A request after some of its tokens.

    Attributes:
        cached_tokens: of the prompt.
        output_ids: tokens so far.
        finished: whether that is all.
    """

    cached_tokens: int
    output_ids: Sequence[int]
    finished: bool


class Engine:
    """Serves requests, concurrently.

    Attributes:
        prompt_tokens, cached_tokens: of all requests so far.
    """

    def __init__(
        self, server: BatchingServer, times: BatchTimes, context_length: int, speed: float = 1.0
    ) -> None:
        """Start idle; the first request starts the clock.

        Args:
            context_length: tokens of prompt and output together, at most.
            speed: how many times faster than `times` to be.
        """
        self._server, self._timed = server, TimedServer(server, times)
        self._context_length, self._speed = context_length, speed
        self._tokens: dict[Request, asyncio.Queue[int | Exception]] = {}
        self._loop: asyncio.Task[None] | None = None
        self.prompt_tokens = self.cached_tokens = 0

    @property
    def running(self) -> int:
        """Requests waiting or running."""
        return len(self._tokens)

    def check(self, prompt: Sequence[int], output_tokens: int) -> None:
        """Raise PolicyError for a request that a server refuses."""
        check_lengths(len(prompt), output_tokens, self._context_length)

    def flush(self) -> bool:
        """Empty the cache; return False, and do nothing, while a request runs."""
        if self.running or self._loop is not None:
            return False
        self._server.flush()
        return True

    async def serve(
        self, prompt: Sequence[int], output: Sequence[int], interval: int = 1
    ) -> AsyncIterator[Progress]:
        """Serve a request; yield after the first, after every `interval`-th more, and the last token.

        A caller that goes away early aborts it.

        Raises:
            PolicyError: the request does not fit the pools, alone or beside others.
        """
        request = self._server.submit("", prompt, output)
        tokens = self._tokens[request] = asyncio.Queue()
        if self._loop is None:
            self._loop = asyncio.create_task(self._run())
        try:
            while True:
                seen = await tokens.get()
                if isinstance(seen, Exception):
                    raise seen
                assert request.running is not None
                if seen == 1:
                    self.prompt_tokens += len(prompt)
                    self.cached_tokens += request.running.hit
                last = seen == len(output)
                if last or (seen - 1) % interval == 0:
                    yield Progress(request.running.hit, output[:seen], last)
                if last:
                    return
        finally:
            del self._tokens[request]
            self._server.abort(request)

    async def _run(self) -> None:
        """Run batches until there is nothing left to do."""
        clock = asyncio.get_running_loop().time
        started_s = clock() - self._timed.now / self._speed
        try:
            while (served := self._timed.step()) is not None:
                wait_s = started_s + self._timed.now / self._speed - clock()
                await asyncio.sleep(max(wait_s, 0))
                for request in served:
                    if request in self._tokens:  # else its client is gone
                        self._tokens[request].put_nowait(request.seen)
        except Exception as error:
            # not only what is expected: clients would wait for ever
            logger.exception(
                "the simulation ended early; requests are dropped, the cache is emptied"
            )
            for tokens in self._tokens.values():
                tokens.put_nowait(error)
            self._server.flush()
        finally:
            self._loop = None


def made_up(prompt: Sequence[int], count: int) -> list[int]:
    """Return an output: always the same for the same prompt, as greedy decoding gives."""
    seed = zlib.crc32(",".join(map(str, prompt)).encode())
    return random.Random(seed).choices(OUTPUT_IDS, k=count)
