"""Prompts that run together find each other: tests that hold for each release and strategy.

A release's test module imports them; its `conftest` has the fixture `start`.
"""

import random

import pytest

from tests.sglang_cpu.server import CpuServer
from tests.sglang_cpu.starting import Start
from tests.sglang_cpu.workloads import SETTINGS, random_requests

SEEDS = range(6)
OUTPUT = 100
"""Tokens of a request's output: more than the steps in which the others arrive."""
ROOMY = (30_000, 600)
"""Pools in which nothing is ever evicted, so that hits differ for one reason only."""


def hits_in_flight(load: CpuServer, seed: int) -> int:
    """Serve prompts that arrive one by one while none of the others has finished; return the hits."""
    requests = list(random_requests(seed, load.setup.running, vocabulary=3))
    for prompt, _ in requests:
        load.submit(prompt, [5] * OUTPUT)
        for _ in range(8):
            load.step()
    assert load.running == len(requests)
    load.finish()
    load.check()
    return sum(load.hits.values())


def states(load: CpuServer) -> list[int]:
    """Return the lengths of the prefixes with a cached state."""
    return sorted(len(tokens) for tokens, state in load.tree().items() if state)


@pytest.mark.parametrize("chunk", [None, 16])
@pytest.mark.parametrize("running", [4, 8])
def test_no_fewer_hits_than_stock_for_want_of_a_finish(
    start: Start, running: int, chunk: int | None
) -> None:
    for seed in SEEDS:
        stock = hits_in_flight(start.stock(*ROOMY, running, chunk), seed)
        load = start(SETTINGS["alpha 0"], *ROOMY, running, chunk)
        assert hits_in_flight(load, seed) >= stock


def test_without_probation_there_are_fewer(start: Start) -> None:
    """The rule is needed: its absence costs the hits on running requests."""
    settings = SETTINGS["alpha 0"]
    stock = sum(hits_in_flight(start.stock(*ROOMY, 8, 16), seed) for seed in SEEDS)
    alone = sum(
        hits_in_flight(start(settings, *ROOMY, 8, 16, concurrent=False), seed) for seed in SEEDS
    )
    marconi = sum(hits_in_flight(start(settings, *ROOMY, 8, 16), seed) for seed in SEEDS)
    assert alone < stock < marconi


def test_prompts_with_a_shared_prefix_that_arrive_one_by_one(start: Start) -> None:
    """The second finds the branch point in the running first, the third hits all that is shared."""
    load = start(SETTINGS["alpha 0"], *ROOMY, running=4)
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


@pytest.mark.parametrize("chunk", [None, 64])
def test_prompts_with_the_same_branch_point_that_arrive_together(
    start: Start, chunk: int | None
) -> None:
    """One is cut there; the others wait for the state instead of computing the prefix again."""
    load = start(SETTINGS["alpha 0"], *ROOMY, running=8, chunk=chunk)
    shared = list(range(100, 143))
    load.serve([*shared, 7], [1, 2])
    names = [load.submit([*shared, *range(200 + 9 * i, 209 + 9 * i)], [1] * 5) for i in range(5)]
    load.finish()
    load.check()
    assert [load.hits[name] for name in names] == [0, 43, 43, 43, 43]
    assert load.cache.statistics.branch_states == 1
    assert load.cache.statistics.deferred_prompts == 1, load.cache.statistics


@pytest.mark.parametrize("chunk", [None, 64])
def test_every_branch_point_of_prompts_that_arrive_together_is_cached(
    start: Start, chunk: int | None
) -> None:
    load = start(SETTINGS["alpha 0"], *ROOMY, running=8, chunk=chunk)
    documents = [list(range(100 * i, 100 * i + 60)) for i in range(1, 6)]
    for document in documents:
        load.serve(document, [1, 2])
    for i, document in enumerate(documents):
        load.submit([*document[: 37 + i], 7, 8, 9], [1] * 5)
    load.finish()
    load.check()
    assert load.cache.statistics.branch_states == len(documents)
    again = [load.serve([*d[: 37 + i], 5], [1]) for i, d in enumerate(documents)]
    assert again == [37, 38, 39, 40, 41]


def test_states_on_probation_go_with_their_request(start: Start) -> None:
    load = start(SETTINGS["alpha 0"], *ROOMY, running=2, chunk=16)
    prompt, output = list(range(100, 150)), list(range(40))
    load.submit(prompt, output)
    for _ in range(7):
        load.step()
    assert {16, 32, 48} <= set(states(load))
    load.finish()
    load.check()
    assert states(load) == [len(prompt) + len(output) - 1 + start.overlap]
    assert load.cache.on_probation == {}
    assert load.cache.statistics.probation_states >= 3


def test_a_state_that_another_request_used_stays(start: Start) -> None:
    load = start(SETTINGS["alpha 0"], *ROOMY, running=2, chunk=16)
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


@pytest.mark.parametrize("chunk", [None, 16, 32])
def test_a_prompt_that_was_cut_finds_room_for_its_rest(start: Start, chunk: int | None) -> None:
    """Others that join its batch must not take the KV slots that it still needs."""
    for seed in range(12):
        load, rng = start(SETTINGS["alpha 1"], 150, 18, 3, chunk), random.Random(seed)
        for prompt, output in random_requests(seed, 40, vocabulary=3, outputs=20):
            load.submit(prompt, output)
            for _ in range(rng.choice((0, 0, 1, 3, 8))):
                load.step()
        load.finish()
        load.check()
        assert load.retractions == 0
