"""Marconi's cache for SGLang 0.5.6.post2: named situations, and many requests under pressure."""

import random

import pytest
from marconi_sglang.settings import MarconiSettings
from sglang.srt.marconi.cache import BranchPointCache

from tests.patch_v0_5_6.cpu_server import CpuServer, Setup, WrongMemoryError
from tests.patch_v0_5_6.workloads import SETTINGS, random_requests, server

MARCONI = MarconiSettings(eff_weight=0.0)
SHARED = list(range(100, 140))
A, B, C = [*SHARED, *range(140, 160)], [*SHARED, *range(200, 230)], [*SHARED, *range(300, 310)]
NEXT_TURN = [*A, 1, 2, 3, *range(400, 410)]
each_chunk = pytest.mark.parametrize("chunk", [None, 16])


def states(load: CpuServer) -> list[int]:
    return sorted(len(tokens) for tokens, state in load.tree().items() if state)


@each_chunk
@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_branch_next_turn_and_identical_prompt(chunk: int | None, alpha: float) -> None:
    load = server(Setup(2000, 30, chunk=chunk), MarconiSettings(eff_weight=alpha))
    requests = [(A, [1, 2, 3, 4]), (B, [5, 6]), (C, [7, 8]), (NEXT_TURN, [9, 9]), (B, [5, 6])]
    assert [load.serve(*request) for request in requests] == [0, 0, 40, 63, 40]
    assert load.serve(B, [5, 6]) == 69
    load.check()


def test_stock_never_hits_the_shared_prefix() -> None:
    load = server(Setup(2000, 30), None)
    requests = [(A, [1, 2, 3, 4]), (B, [5, 6]), (C, [7, 8]), (NEXT_TURN, [9, 9]), (B, [5, 6])]
    assert [load.serve(*request) for request in requests] == [0, 0, 0, 63, 0]


@each_chunk
def test_only_branch_points_and_ends_are_cached(chunk: int | None) -> None:
    load = server(Setup(2000, 30, chunk=chunk), MARCONI)
    load.serve(A, [1, 2])
    assert states(load) == [61]
    load.serve(B, [1, 2])
    assert states(load) == [40, 61, 71]
    shown = load.cache.marconi_state()
    assert shown["requests"] == 2 and shown["branch_states"] == 1 and shown["cached_states"] == 3
    assert shown["vetoed_states"] > 0


def test_statistics_count_hits_and_flush_forgets() -> None:
    load = server(Setup(2000, 30), MARCONI)
    for prompt in (A, B, C):
        load.serve(prompt, [1])
    assert load.cache.marconi_state()["token_hit_rate"] == 40 / (len(A) + len(B) + len(C))
    load.flush()
    assert load.cache.marconi_state()["requests"] == load.cache.two_pool.cached_nodes == 0
    assert [load.serve(prompt, [1]) for prompt in (A, B, C)] == [0, 0, 40]
    load.check()


@each_chunk
def test_two_prompts_that_branch_in_one_batch(chunk: int | None) -> None:
    load = server(Setup(2000, 30, running=4, chunk=chunk), MARCONI)
    other = list(range(500, 560))
    load.serve(A, [1, 2])
    load.serve(other, [1, 2])
    for prompt in (B, [*other[:37], *range(600, 640)], C, list(range(700, 800))):
        load.submit(prompt, [1, 2, 3])
    load.finish()
    load.check()
    assert len(load.hits) == 6 and load.cache.statistics.branch_states >= 1
    assert load.serve([*SHARED, 999], [1]) == 40


@pytest.mark.parametrize("running", [1, 4])
@each_chunk
@pytest.mark.parametrize("name", SETTINGS)
def test_nothing_is_wrong_or_lost_under_pressure(
    name: str, chunk: int | None, running: int
) -> None:
    load = server(Setup(150 + 140 * running, 4 * running + 6, running, chunk), SETTINGS[name])
    rng = random.Random(3)
    for prompt, output in random_requests(running, 120):
        load.submit(prompt, output)
        for _ in range(rng.randint(0, 6)):
            load.step()
        if rng.random() < 0.05 and load._running:
            load.retract_last()
        if rng.random() < 0.05 and load._waiting:
            load.abort_waiting()
        if rng.random() < 0.1:
            load.finish()
            load.check()
    load.finish()
    load.check()
    assert sum(load.hits.values()) > 0 and (load.retractions or running == 1)


# Negative controls: a wrong cache is found out.


def test_a_state_cached_at_the_wrong_place_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    insert = BranchPointCache.insert
    monkeypatch.setattr(
        BranchPointCache,
        "insert",
        lambda self, key, value, state: insert(self, key[:-1], value[:-1], state),
    )
    load = server(Setup(2000, 30), MARCONI)
    load.serve(A, [1, 2])
    with pytest.raises((WrongMemoryError, AssertionError)):
        load.check()


def test_claiming_kvs_of_the_tree_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sglang.srt.marconi.cache.leave_to_tree", lambda req: None)
    load = server(Setup(2000, 30, chunk=16), MARCONI)
    load.serve(A, [1, 2])
    load.serve(B, [1, 2])
    with pytest.raises(AssertionError):
        load.check()
