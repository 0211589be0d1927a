"""What happens to a simulated request, and when.

Prompts are computed one after the other, in the order in which they arrive; decoding goes on beside, as
under continuous batching, at a constant time per token. What a request leaves in the cache is there
when its prompt is computed, not when its last token is decoded. With one request at a time, cached
tokens are exactly the simulator's.
"""

import asyncio
import random
import zlib
from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

from marconi_core.errors import PolicyError
from marconi_core.serving.simulated.cache import Cache
from marconi_core.serving.simulated.latency import Latency

OUTPUT_IDS = range(1_000, 100_000)


class Limits(NamedTuple):
    """What a server can hold.

    Attributes:
        context_length: tokens of prompt and output together.
        running_requests: requests at a time.
    """

    context_length: int
    running_requests: int


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
        running: requests waiting or running.
        prompt_tokens, cached_tokens: of all requests so far.
    """

    def __init__(self, cache: Cache, latency: Latency, limits: Limits) -> None:
        self._cache, self._latency, self._limits = cache, latency, limits
        self._prefill = asyncio.Lock()
        self._slots = asyncio.Semaphore(limits.running_requests)
        self.running = self.prompt_tokens = self.cached_tokens = 0

    def check(self, prompt: Sequence[int], output_tokens: int) -> None:
        """Raise PolicyError for a request that a server refuses."""
        if not prompt or output_tokens < 1:
            raise PolicyError("a request needs at least one prompt token and one output token")
        if len(prompt) + output_tokens > self._limits.context_length:
            raise PolicyError(
                f"{len(prompt)} prompt and {output_tokens} output tokens are longer than the model's "
                f"context of {self._limits.context_length} tokens"
            )

    def flush(self) -> bool:
        """Empty the cache; return False, and do nothing, while a request runs."""
        if self.running:
            return False
        self._cache.flush()
        return True

    async def serve(
        self, prompt: Sequence[int], output: Sequence[int], interval: int = 1
    ) -> AsyncIterator[Progress]:
        """Serve a request; yield after the first, after every `interval`-th more, and the last token.

        Raises:
            PolicyError: the request does not fit the pools.
        """
        self.running += 1
        try:
            async with self._slots:
                async with self._prefill:
                    # in a thread: tuning takes seconds, in which others go on decoding
                    cached = await asyncio.to_thread(self._cache.hit, prompt, output)
                    await asyncio.sleep(self._latency.prefill_s(len(prompt), cached))
                self.prompt_tokens += len(prompt)
                self.cached_tokens += cached
                done = 1
                while done < len(output):
                    yield Progress(cached, output[:done], False)
                    more = min(interval, len(output) - done)
                    await asyncio.sleep(more * self._latency.output_token_s)
                    done += more
                yield Progress(cached, output, True)
        finally:
            self.running -= 1


def made_up(prompt: Sequence[int], count: int) -> list[int]:
    """Return an output: always the same for the same prompt, as greedy decoding gives."""
    seed = zlib.crc32(",".join(map(str, prompt)).encode())
    return random.Random(seed).choices(OUTPUT_IDS, k=count)
