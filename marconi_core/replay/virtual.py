"""The same replay in virtual time, on a simulated server with a clock: hours in seconds, no HTTP.

Requests become due as in `run` and get the recorded outputs. One that answers a reply, or takes its slot,
comes a little later than the reply: the server has begun its next batch by then, and often the one
prompt holds up another in a way that it would not if both came at the same moment.
"""

import heapq
import logging
import sys
from collections.abc import Callable

from marconi_core.progress import Heartbeat
from marconi_core.replay.options import ReplayOptions
from marconi_core.replay.pace import arrivals_s, check_outputs, planned, previous_turns
from marconi_core.replay.rows import ReplayRow
from marconi_core.sim.server.batching import Request
from marconi_core.sim.server.timing import TimedServer
from marconi_core.traces.trace import Trace

logger = logging.getLogger(__name__)

ROUND_TRIP_S = 0.001
"""From a token on the server to a request that it gives rise to: HTTP, the client, HTTP. Not measured; any
time that is shorter than a decoding step gives nearly the same."""

# in the place of a request: a slot becomes free, after requests of the same moment joined those that wait
SLOT = sys.maxsize


def replay_virtually(
    trace: Trace,
    server: TimedServer,
    options: ReplayOptions,
    on_row: Callable[[ReplayRow], None] = lambda row: None,
) -> list[ReplayRow]:
    """Replay a trace on an idle server; return a row per request, in trace order.

    Args:
        on_row: called with each row when its request has ended.

    Raises:
        ReplayError: a request of the trace has no output.
        PolicyError: the server cannot serve a request.
    """
    requests = planned(trace, options)
    check_outputs(trace, requests)
    return _VirtualReplay(trace, server, options, requests, on_row).run()


class _VirtualReplay:
    def __init__(
        self,
        trace: Trace,
        server: TimedServer,
        options: ReplayOptions,
        count: int,
        on_row: Callable[[ReplayRow], None],
    ) -> None:
        self._trace, self._server, self._on_row = trace, server, on_row
        self._count = count
        self._slots = options.concurrency or count
        self._arrivals = arrivals_s(trace, count, options.speed).tolist()
        self._next_turn: dict[int, int] = {}
        if options.loop == "closed":
            previous = enumerate(previous_turns(trace, count))
            self._next_turn = {before: i for i, before in previous if before is not None}
        later = set(self._next_turn.values())
        self._events = [(self._arrivals[i], i) for i in range(count) if i not in later]
        heapq.heapify(self._events)
        self._waiting: list[int] = []  # for a slot; the first of the trace gets it
        self._sent: dict[int, float] = {}
        self._first: dict[int, float] = {}
        self._rows: list[ReplayRow] = []
        self._heartbeat = Heartbeat(logger, "%d of %d requests, %.0f s of virtual time")

    def run(self) -> list[ReplayRow]:
        while True:
            self._catch_up()
            served = self._server.step()
            if served is None:
                if len(self._rows) == self._count:
                    return sorted(self._rows)
                self._server.now = self._events[0][0]
                continue
            for request in served:
                self._got_token(request)

    def _catch_up(self) -> None:
        """Send what has become due and finds a slot; the rest waits for one."""
        while self._events and self._events[0][0] <= self._server.now:
            at, i = heapq.heappop(self._events)
            if i == SLOT:
                self._slots += 1
            else:
                heapq.heappush(self._waiting, i)
            if self._slots and self._waiting:
                self._send(heapq.heappop(self._waiting), at)

    def _send(self, i: int, at: float) -> None:
        self._slots -= 1
        self._sent[i] = at
        self._server.server.submit(i, self._trace.input_tokens(i), self._trace.output_tokens(i))

    def _got_token(self, request: Request) -> None:
        now, i = self._server.now, request.name
        self._first.setdefault(i, now)
        if not request.finished:
            return
        self._keep(self._row(request, i))
        again = now + ROUND_TRIP_S
        heapq.heappush(self._events, (again, SLOT))
        if (following := self._next_turn.get(i)) is not None:
            heapq.heappush(self._events, (max(again, self._arrivals[following]), following))

    def _keep(self, row: ReplayRow) -> None:
        self._rows.append(row)
        self._on_row(row)
        self._heartbeat.beat(len(self._rows), self._count, row.end_s)

    def _row(self, request: Request, i: int) -> ReplayRow:
        sent, first = self._sent.pop(i), self._first.pop(i)
        assert request.running is not None
        return ReplayRow(
            request=i,
            session=int(self._trace.session[i]),
            turn=int(self._trace.turn[i]),
            prompt_tokens=len(request.prompt),
            cached_tokens=request.running.hit,
            output_tokens=len(request.output),
            scheduled_s=round(self._arrivals[i], 6),
            due_s=round(sent, 6),
            sent_s=round(sent, 6),
            first_token_s=round(first, 6),
            end_s=round(self._server.now, 6),
            ttft_ms=round(1e3 * (first - sent), 3),
            error="",
        )
