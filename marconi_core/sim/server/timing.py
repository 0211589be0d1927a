"""When a simulated server's batches end: a clock around `BatchingServer`.

One batch runs at a time. A server with overlap launches the next one when the results of the last are
seen, so that it can start at once when the one in between ends; a request that arrives meanwhile
joins the batch after that.
"""

from marconi_core.models.latency import BatchTimes
from marconi_core.sim.server.batching import Batch, BatchingServer, Request


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

    def step(self) -> list[Request] | None:
        """Launch a batch, wait for the results that are due, and see them.

        Returns:
            The requests that got a token, at `now`; None if there is nothing to do.

        Raises:
            PolicyError: the KV pool is too small for the requests that run.
        """
        step = self.server.step()
        due = self._ends
        if step.launched is not None:
            self._ends = max(self._ends, self.now) + self._seconds(step.launched)
        if step.seen is None:
            return None if step.launched is None else []
        self.now = max(self.now, self._ends if step.seen is step.launched else due)
        return step.served

    def _seconds(self, batch: Batch) -> float:
        if not batch.chunks:
            return self._times.decode_s(len(batch.decoding))
        return self._times.prefill_s(
            [chunk.end for chunk in batch.chunks], [chunk.start for chunk in batch.chunks]
        )
