"""Prompts that run together find each other: never fewer hits than stock for want of a finish."""

import pytest

from tests.patch.cpu_server import CpuServer, Setup
from tests.patch.workloads import SETTINGS, random_requests, server

STRATEGIES = ("no_buffer", "extra_buffer")
SEEDS = range(10)


def roomy(strategy: str, running: int, chunk: int | None = 16) -> Setup:
    """Pools in which nothing is ever evicted, so that hits differ for one reason only."""
    return Setup(
        30_000,
        600,
        running=running,
        chunk=chunk,
        strategy=strategy,
        overlap=strategy == "extra_buffer",
    )


def hits_in_flight(load: CpuServer, seed: int) -> int:
    """Serve prompts that arrive one by one while none of the others has finished."""
    requests = list(random_requests(seed, load.setup.running, vocabulary=3))
    for prompt, _ in requests:
        load.submit(prompt, [5] * 300)
        for _ in range(8):
            load.step()
    assert load.running == len(requests)
    load.finish()
    load.check()
    return sum(load.hits.values())


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("chunk", [None, 16])
def test_no_fewer_hits_than_stock_for_want_of_a_finish(strategy: str, chunk: int | None) -> None:
    for running in (4, 8):
        for seed in SEEDS:
            stock = hits_in_flight(server(roomy("no_buffer", running, chunk), None), seed)
            load = server(roomy(strategy, running, chunk), SETTINGS["alpha 0"])
            assert hits_in_flight(load, seed) >= stock


def test_without_probation_there_are_fewer() -> None:
    """The rule is needed: its absence costs the hits on running requests."""
    setup = roomy("no_buffer", 8)
    stock = sum(hits_in_flight(server(setup, None), seed) for seed in SEEDS)
    alone = sum(hits_in_flight(server(setup, SETTINGS["alpha 0"], False), s) for s in SEEDS)
    marconi = sum(hits_in_flight(server(setup, SETTINGS["alpha 0"]), seed) for seed in SEEDS)
    assert alone < stock < marconi


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_prompts_with_a_shared_prefix_that_arrive_together(strategy: str) -> None:
    """The second finds the branch point in the running first, the third hits all that is shared."""
    load = server(roomy(strategy, 4, chunk=None), SETTINGS["alpha 0"])
    shared = list(range(100, 143))
    long_output = list(range(1000, 1060))
    names = []
    for tail in range(3):
        names.append(load.submit([*shared, *range(200 + 20 * tail, 215 + 20 * tail)], long_output))
        for _ in range(4):
            load.step()
    assert [load.hits[name] for name in names] == [0, 0, 43]
    assert load.running == 3
    load.finish()
    load.check()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_states_on_probation_go_with_their_request(strategy: str) -> None:
    load = server(roomy(strategy, 2), SETTINGS["alpha 0"])
    prompt = list(range(100, 150))
    output = list(range(40))
    load.submit(prompt, output)
    for _ in range(7):
        load.step()
    during = sorted(len(tokens) for tokens, state in load.tree().items() if state)
    load.finish()
    load.check()
    after = sorted(len(tokens) for tokens, state in load.tree().items() if state)
    assert {16, 32, 48} <= set(during)
    assert after == [len(prompt) + len(output) - 1 + load.setup.overlap]
    assert load.cache.on_probation == {}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_state_that_another_request_used_stays(strategy: str) -> None:
    load = server(roomy(strategy, 2), SETTINGS["alpha 0"])
    first = list(range(100, 150))
    load.submit(first, list(range(40)))
    for _ in range(7):
        load.step()
    name = load.submit([*first, 7, 8], [1])
    for _ in range(3):
        load.step()
    assert load.hits[name] == len(first)
    load.finish()
    load.check()
    assert load.tree()[tuple(first)]
    assert load.cache.statistics.kept_states == 1
