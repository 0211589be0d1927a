"""When a simulated server's batches end: a clock around `BatchingServer`.

One batch runs at a time. A server with overlap launches the next one when the results of the last are
seen, so that it can start at once when the one in between ends; a request that arrives meanwhile
joins the batch after that.
"""

from dataclasses import dataclass

from marconi_core.models.latency import PrefillLatency
from marconi_core.sim.server.batching import Batch, BatchingServer, Request


@dataclass(frozen=True)
class BatchTimes:
    """How long batches take.

    Attributes:
        prefill: of one prompt; the start is paid once a batch.
        token_ms: of a decoding step, whatever the number of requests: what is read for it are the
            model's weights, above all.
    """

    prefill: PrefillLatency
    token_ms: float

    def seconds(self, batch: Batch) -> float:
        """Return how long a batch takes."""
        if not batch.chunks:
            return self.token_ms / 1e3
        ends = [chunk.end for chunk in batch.chunks]
        starts = [chunk.start for chunk in batch.chunks]
        shared = self.prefill.start_ms * (len(ends) - 1)
        return (float(self.prefill.ms(ends, starts).sum()) - shared) / 1e3


class TimedServer:
    """A server with a clock.

    Attributes:
        server: what it runs; requests are submitted there.
        now: seconds; callers may put it forward while the server is idle.
    """

    def __init__(self, server: BatchingServer, times: BatchTimes) -> None:
        self.server, self.now = server, 0.0
        self._times = times
        self._ends = 0.0  # of the last batch
        self._unseen: tuple[Batch, float] | None = None

    def step(self) -> list[Request] | None:
        """Launch a batch, wait for the results that are due, and take them in.

        Returns:
            The requests that got a token, at `now`; None if there is nothing to do.
        """
        batch = self.server.launch()
        launched = None
        if batch is not None:
            self._ends = max(self._ends, self.now) + self._times.seconds(batch)
            launched = batch, self._ends
        due = launched
        if self.server.simulator.overlap:
            due, self._unseen = self._unseen, launched
        if due is None:
            return None if launched is None else []
        batch, ends = due
        self.now = max(self.now, ends)
        return self.server.take_in(batch)
