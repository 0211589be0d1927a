"""Replays in virtual time, beside the client's rules."""

from collections import Counter

import numpy as np
import pytest

from marconi_core.models.latency import BatchTimes, PrefillLatency
from marconi_core.replay.options import ReplayOptions
from marconi_core.replay.rows import ReplayRow
from marconi_core.replay.run import replay
from marconi_core.replay.virtual import ROUND_TRIP_S, replay_virtually
from marconi_core.serving.errors import ReplayError
from marconi_core.sim.server import PoolSizes, ServerSimulator
from marconi_core.sim.server.batching import BatchingServer
from marconi_core.sim.server.timing import TimedServer
from marconi_core.traces.trace import Request, Trace
from tests.unit.simulated_server import serving

TIMES = BatchTimes(PrefillLatency(40, 5, 0), token_ms=10)


@pytest.fixture(scope="module")
def trace() -> Trace:
    """Five interleaved conversations, a request every 50 ms."""
    draw = np.random.default_rng(1)
    histories = {s: [7, 8, 9] * 20 for s in range(5)}
    found = []
    for turn in range(4):
        for session, history in histories.items():
            prompt = history + draw.integers(10_000, size=20).tolist()
            output = draw.integers(10_000, size=draw.integers(2, 9)).tolist()
            found.append(Request(session, turn, len(found) * 0.05, prompt, output))
            histories[session] = prompt + output
    return Trace.build(found)


def server(running: int = 8) -> BatchingServer:
    return BatchingServer(ServerSimulator(PoolSizes(4000, 30)), running)


def virtual(trace: Trace, running: int = 8, **options: object) -> list[ReplayRow]:
    return replay_virtually(trace, TimedServer(server(running), TIMES), ReplayOptions.of(options))


def in_flight(rows: list[ReplayRow]) -> int:
    """Return the most requests in flight at a time."""
    changes = Counter[tuple[float, int]]()
    for row in rows:
        changes[row.sent_s, 1] += 1
        changes[row.end_s, -1] -= 1
    at_once = [changes[key] for key in sorted(changes, key=lambda key: (key[0], key[1]))]
    return int(np.cumsum(at_once).max())


@pytest.mark.parametrize("concurrency", [1, 3])
def test_turns_wait_for_each_other_and_for_slots(trace: Trace, concurrency: int) -> None:
    rows = virtual(trace, concurrency=concurrency)
    assert [row.request for row in rows] == list(range(len(trace)))
    assert in_flight(rows) == concurrency
    ends = {(row.session, row.turn): row.end_s for row in rows}
    assert all(row.sent_s >= ends[row.session, row.turn - 1] for row in rows if row.turn)
    assert [row.prompt_tokens for row in rows] == trace.n_in.tolist()
    assert [row.output_tokens for row in rows] == trace.n_out.tolist()
    if concurrency == 1:
        simulator = ServerSimulator(PoolSizes(4000, 30))
        alone = [
            simulator.serve(trace.input_tokens(i), trace.output_tokens(i)).hit
            for i in range(len(trace))
        ]
        assert [row.cached_tokens for row in rows] == alone and sum(alone)


def test_arrival_times_are_respected(trace: Trace) -> None:
    rows = virtual(trace, speed=0.5, loop="open")
    assert [row.sent_s for row in rows] == pytest.approx((trace.ts / 0.5).tolist(), abs=1e-6)
    assert all(row.due_s == row.scheduled_s == row.sent_s for row in rows)
    idle = virtual(trace.head(2), speed=0.001, loop="open")  # 50 s apart
    assert [row.sent_s for row in idle] == [0, 50.0]


def test_who_comes_while_a_batch_runs_waits_for_its_end() -> None:
    requests = [Request(s, 0, 0.1 * s, [s] * 50, [1]) for s in range(3)]
    slow = BatchTimes(PrefillLatency(1000, 0, 0), token_ms=10)
    rows = replay_virtually(
        Trace.build(requests),
        TimedServer(server(), slow),
        ReplayOptions.of({"speed": 1, "loop": "open", "concurrency": 2}),
    )
    # the second comes at 0.1 s and shares its batch with nobody: the third has no slot yet, and when it
    # has one, the second's batch has begun
    assert [row.sent_s for row in rows] == pytest.approx([0, 0.1, 1 + ROUND_TRIP_S])
    assert [row.ttft_ms for row in rows] == pytest.approx([1000, 1900, 2000 - 1000 * ROUND_TRIP_S])


def test_a_next_turn_competes_for_the_slot_that_its_session_gives_back() -> None:
    turns = [(0, 0), (0, 1), (1, 0), (1, 1), (0, 2)]
    requests = [Request(s, turn, 0.0, [s] * 50, [1]) for s, turn in turns]
    rows = replay_virtually(
        Trace.build(requests), TimedServer(server(), TIMES), ReplayOptions(concurrency=1)
    )
    assert [row.request for row in sorted(rows, key=lambda row: row.sent_s)] == [0, 1, 2, 3, 4]


def test_a_trace_without_outputs_is_refused() -> None:
    silent = Trace.build([Request(0, 0, 0, [1], [2]), Request(1, 0, 1, [3], [])])
    with pytest.raises(ReplayError, match="request 1 of the trace has no output tokens"):
        virtual(silent, concurrency=1)


def test_an_open_loop_does_not_wait(trace: Trace) -> None:
    rows = virtual(trace, speed=1000, loop="open", requests=10)
    assert len(rows) == 10 and max(row.sent_s for row in rows) < min(row.end_s for row in rows)


def test_a_request_waits_where_too_many_run(trace: Trace) -> None:
    free, crowded = (virtual(trace, running, concurrency=5) for running in (5, 2))
    assert np.mean([row.ttft_ms for row in crowded]) > np.mean([row.ttft_ms for row in free])


def test_real_time_gives_the_same(trace: Trace) -> None:
    """The client, HTTP and a busy machine take time too, and blur who shares a batch; not much more."""
    expected = virtual(trace, concurrency=3)
    with serving(server(), times=TIMES, speed=1) as client:
        rows = replay(trace, client, ReplayOptions(concurrency=3))
    hits, hits_expected = (sum(row.cached_tokens for row in each) for each in (rows, expected))
    assert hits == pytest.approx(hits_expected, rel=0.1)
    median, median_expected = (np.median([r.ttft_ms for r in each]) for each in (rows, expected))
    assert 0.9 * median_expected < median < 4 * median_expected
