"""Several requests at a time, in simulation; tests/patch holds it against SGLang's own classes."""

import random
from collections.abc import Iterator
from dataclasses import replace

import pytest

from marconi_core.errors import PolicyError
from marconi_core.models.latency import BatchTimes, PrefillLatency
from marconi_core.models.paper import Geometry, PaperModel
from marconi_core.sim.server import (
    STOCK,
    PoolSizes,
    ServerPolicy,
    ServerSimulator,
    TrackGrid,
    marconi,
    most_running,
    server_simulator,
)
from marconi_core.sim.server.batching import NOTHING, BatchingServer
from marconi_core.sim.server.strategy import Strategy
from marconi_core.sim.server.timing import TimedServer
from marconi_core.sim.server.tuning import Following
from marconi_core.sim.server.uncached import UncachedServerSimulator

COSTS = PaperModel(Geometry(3, 1, 0, d=32, n=8))
MARCONI = replace(marconi(1.0, branch_gain=1), probation=True)
SIZES = PoolSizes(700, 30)
SERVERS: list[tuple[Strategy, ServerPolicy]] = [
    ("no_buffer", STOCK),
    ("extra_buffer", STOCK),
    ("no_buffer", MARCONI),
    ("extra_buffer", MARCONI),
]


def requests(seed: int, count: int) -> Iterator[tuple[list[int], list[int]]]:
    """Prompts that often begin as an earlier request does."""
    rng = random.Random(seed)
    seen: list[list[int]] = []
    for _ in range(count):
        prompt = [rng.randrange(3) for _ in range(rng.randint(1, 60))]
        if seen and rng.random() < 0.5:
            prompt = [*rng.choice(seen), *prompt][:90]
        output = [rng.randrange(3) for _ in range(rng.randint(1, 20))]
        seen.append(prompt + output)
        yield prompt, output


def simulated(
    strategy: Strategy, policy: ServerPolicy, sizes: PoolSizes = SIZES
) -> ServerSimulator:
    return server_simulator(strategy, sizes, policy, COSTS, 32, TrackGrid(8, 16))


def batching(strategy: Strategy, policy: ServerPolicy, sizes: PoolSizes = SIZES) -> BatchingServer:
    most = most_running(strategy, sizes.states, policy)
    return BatchingServer(simulated(strategy, policy, sizes), most)


def run_out(clock: TimedServer) -> None:
    """Run until there is nothing to do."""
    while clock.step() is not None:
        pass


@pytest.mark.parametrize(("strategy", "policy"), SERVERS)
def test_one_at_a_time_it_is_the_simulator(strategy: Strategy, policy: ServerPolicy) -> None:
    simulator, server = simulated(strategy, policy), batching(strategy, policy)
    for prompt, output in requests(1, 150):
        assert server.serve(prompt, output) == simulator.serve(prompt, output).hit
        assert server.simulator.tree() == simulator.tree()
    assert server.simulator.first_eviction == simulator.first_eviction > 0


@pytest.mark.parametrize(("strategy", "policy"), SERVERS)
def test_no_slot_is_lost_and_every_request_served(strategy: Strategy, policy: ServerPolicy) -> None:
    server, rng = batching(strategy, policy), random.Random(2)
    clock = TimedServer(server, BatchTimes(PrefillLatency(5, 1, 0), 1))
    sent, most = [], 0
    for number, request in enumerate(requests(2, 200)):
        sent.append(server.submit(number, *request))
        if rng.random() < 0.1:
            server.abort(rng.choice(sent))
        for _ in range(rng.choice((0, 0, 1, 3))):
            most = max(most, len(clock.step() or ()))
    run_out(clock)
    assert most > 3 and all(request.finished or request.running is None for request in sent)
    simulator = server.simulator
    tree = simulator.tree()
    cached = {path[:n] for path in tree for n in range(1, len(path) + 1)}
    assert simulator.free_tokens + len(cached) == SIZES.kv_tokens
    assert simulator._tree.evictable_tokens == len(cached)
    assert simulator.free_states + sum(tree.values()) == SIZES.states


def test_without_a_cache_everything_is_given_back() -> None:
    server = BatchingServer(UncachedServerSimulator(SIZES, chunk=16), 8)
    clock = TimedServer(server, BatchTimes(PrefillLatency(5, 1, 0), 1))
    sent = [server.submit(i, *request) for i, request in enumerate(requests(3, 40))]
    run_out(clock)
    assert all(request.finished and request.running.hit == 0 for request in sent)  # type: ignore[union-attr]
    assert (server.simulator.free_tokens, server.simulator.free_states) == (700, 30)


def test_alpha_is_tuned_by_what_has_ended_and_forgotten_with_the_cache() -> None:
    sizes, policy = PoolSizes(400, 12), marconi(0.0, branch_gain=1)
    simulator = ServerSimulator(sizes, policy, COSTS)
    server = BatchingServer(simulator, 4, Following(sizes, policy, COSTS))
    for prompt, output in requests(4, 300):
        server.serve(prompt, output)
    assert simulator.alpha > 0
    server.flush()
    assert simulator.alpha == 0 and not simulator.tree()


@pytest.mark.parametrize(
    ("prompt", "output", "message"),
    [([], [1], "at least one prompt token"), ([1], [], "one output token"),
     ([1] * 700, [1], "a pool of 700 KV tokens holds at most 698")],
)  # fmt: skip
def test_impossible_requests(prompt: list[int], output: list[int], message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        batching("no_buffer", STOCK).submit(0, prompt, output)


def test_impossible_servers() -> None:
    with pytest.raises(PolicyError, match=r"not of 0\.5\.6\.post2"):
        BatchingServer(server_simulator("0.5.6.post2", SIZES), 1)
    with pytest.raises(PolicyError, match="0 requests at a time"):
        BatchingServer(ServerSimulator(SIZES), 0)


def test_outputs_that_grow_out_of_the_pool_are_said() -> None:
    server = BatchingServer(ServerSimulator(PoolSizes(10_000, 30)), 4)
    for name in range(2):
        server.submit(name, [name], [5] * 6_000)
    clock = TimedServer(server, BatchTimes(PrefillLatency(1, 0, 0), 1))
    with pytest.raises(PolicyError, match="10000 KV tokens are too few for 2 requests"):
        run_out(clock)


def test_without_chunks_a_batch_is_full_after_so_many_tokens() -> None:
    server = BatchingServer(ServerSimulator(PoolSizes(100_000, 30)), 8)
    for name, tokens in enumerate((10_000, 5_000, 2_000, 30_000)):
        server.submit(name, [name] * tokens, [1])
    launched = []
    while (step := server.step()) != NOTHING:
        launched.append([chunk.end for chunk in step.launched.chunks] if step.launched else [])
    assert launched == [[10_000, 5_000], [2_000], [30_000]]


def test_a_flush_forgets_what_runs_and_what_is_not_seen_yet() -> None:
    for simulator in (ServerSimulator(SIZES), UncachedServerSimulator(SIZES)):
        server = BatchingServer(simulator, 4)
        server.submit(0, [1, 2, 3], [4] * 9)
        server.submit(1, [2, 3], [4])
        server.step()
        server.flush()
        assert server.step() == NOTHING
        assert server.serve([1, 2, 3], [4]) == 0
        tree = simulator.tree()
        cached = {path[:n] for path in tree for n in range(1, len(path) + 1)}
        assert simulator.free_tokens + len(cached) == SIZES.kv_tokens
        assert simulator.free_states + sum(tree.values()) == SIZES.states


# --- how long it takes

TIMES = BatchTimes(PrefillLatency(100, 1024, 0), token_ms=10)  # a millisecond a token


def test_a_batch_pays_its_start_once() -> None:
    server = BatchingServer(UncachedServerSimulator(SIZES), 8)
    for name in range(3):
        server.submit(name, [1] * (10 + name), [1, 2])
    batch = server.step().launched
    assert batch is not None and len(batch.chunks) == 3
    ends = [chunk.end for chunk in batch.chunks]
    assert TIMES.prefill_s(ends, [0, 0, 0]) == pytest.approx(0.133)
    assert TIMES.prefill_s(ends, [8, 8, 8]) == pytest.approx(0.109)
    assert TIMES.decode_s(3) == 0.01


@pytest.mark.parametrize(
    ("simulator", "second_ms"),
    [
        # its prompt (150 ms) begins when the first one's ends, at 150 ms
        (ServerSimulator(SIZES), 300),
        # with overlap, a decoding step was launched already
        (UncachedServerSimulator(SIZES), 310),
    ],
)
def test_who_comes_while_a_batch_runs_joins_a_later_one(
    simulator: ServerSimulator, second_ms: float
) -> None:
    server = BatchingServer(simulator, 8)
    clock = TimedServer(server, TIMES)
    first = server.submit("first", [1] * 50, [1, 2, 3])
    if simulator.overlap:
        assert clock.step() == []  # launched; its results are not seen yet
        assert clock.step() == [first] and clock.now == pytest.approx(0.150)
    else:
        assert clock.step() == [first] and clock.now == pytest.approx(0.150)
    second = server.submit("second", [2] * 50, [1])
    while second not in (clock.step() or ()):
        pass
    assert clock.now == pytest.approx(second_ms / 1e3)
    run_out(clock)
    assert first.finished and second.finished
