"""Marconi's cache for SGLang 0.5.6.post2: hits of small, named situations."""

import pytest

from marconi_core.sim.server.settings import MarconiSettings
from tests.patch_v0_5_6.cpu_server import Setup
from tests.patch_v0_5_6.workloads import server
from tests.sglang_cpu.concurrency import states

MARCONI = MarconiSettings(eff_weight=0.0, branch_gain=1)
SHARED = list(range(100, 140))
A, B, C = [*SHARED, *range(140, 160)], [*SHARED, *range(200, 230)], [*SHARED, *range(300, 310)]
NEXT_TURN = [*A, 1, 2, 3, *range(400, 410)]
each_chunk = pytest.mark.parametrize("chunk", [None, 16])


@each_chunk
@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_branch_next_turn_and_identical_prompt(chunk: int | None, alpha: float) -> None:
    load = server(Setup(2000, 30, chunk=chunk), MarconiSettings(eff_weight=alpha, branch_gain=1))
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


def test_a_conversation_keeps_its_last_states_under_pressure() -> None:
    """History collapses: old turns give up their states, and the next turn hits all the same."""
    load = server(Setup(2000, 6, chunk=16), MARCONI)
    history = list(A)
    for turn in range(12):
        output = list(range(1000 + 10 * turn, 1004 + 10 * turn))
        assert load.serve(history, output) == (0 if turn == 0 else len(history) - 11)
        history += [*output, *range(2000 + 20 * turn, 2010 + 20 * turn)]
    load.check()
    assert load.cache.two_pool.evictions["states", "state"] > 0
    assert load.cache.two_pool.evictions["states", "leaf"] == 0


@each_chunk
def test_the_shortest_prompt_and_the_shortest_output(chunk: int | None) -> None:
    load = server(Setup(2000, 30, chunk=chunk), MARCONI)
    assert [load.serve([7], output) for output in ([1], [1, 2], [1])] == [0, 0, 0]
    load.serve(A, [1])
    assert load.serve([*A, 1, 5], [1]) == len(A)
    load.check()
