"""What users see: hits of small, named situations, stock and Marconi, in both strategies."""

from typing import Any

import pytest
from sglang.srt.managers.schedule_policy import PrefillAdder

from marconi_core.sim.server.settings import MarconiSettings
from tests.patch import cpu_server
from tests.patch.cpu_server import CpuServer, Setup
from tests.patch.workloads import server

MARCONI = MarconiSettings(eff_weight=0.0, branch_gain=1)

SHARED = list(range(100, 143))  # 43 tokens: not a multiple of any grid
A = [*SHARED, *range(143, 160)]
B = [*SHARED, *range(200, 230)]
C = [*SHARED, *range(300, 310)]
ANSWER = [1, 2, 3, 4]

STRATEGIES = {
    "no_buffer": Setup(2000, 30),
    "no_buffer, chunks": Setup(2000, 30, chunk=16),
    "extra_buffer": Setup(2000, 30, strategy="extra_buffer", overlap=True),
    "extra_buffer, chunks": Setup(2000, 30, chunk=16, strategy="extra_buffer", overlap=True),
}
each_strategy = pytest.mark.parametrize("setup", STRATEGIES.values(), ids=STRATEGIES)


def states(load: CpuServer) -> list[int]:
    """Return the lengths of the prefixes with a cached state."""
    return sorted(len(tokens) for tokens, state in load.tree().items() if state)


@each_strategy
def test_the_third_prompt_with_a_shared_prefix_hits_all_of_it(setup: Setup) -> None:
    load = server(setup, MARCONI)
    assert [load.serve(prompt, ANSWER) for prompt in (A, B, C)] == [0, 0, 43]
    assert 43 in states(load)
    assert load.cache.statistics.branch_states == 1


def test_stock_without_buffers_never_hits_a_shared_prefix() -> None:
    load = server(STRATEGIES["no_buffer"], None)
    assert [load.serve(prompt, ANSWER) for prompt in (A, B, C, C)] == [0, 0, 0, 0]


@each_strategy
def test_a_next_turn_hits_the_whole_history(setup: Setup) -> None:
    load = server(setup, MARCONI)
    load.serve(A, ANSWER)
    # under overlap, one more token has been run through the model when the request ends
    cached = len(A) + len(ANSWER) - 1 + setup.overlap
    assert load.serve([*A, *ANSWER, *range(400, 410)], [9]) == cached


def test_an_identical_prompt_hits_from_the_third_time_on() -> None:
    """Its KVs are cached from the first time on; the second time finds the branch point."""
    for setup in STRATEGIES.values():
        load = server(setup, MARCONI)
        assert [load.serve(A, ANSWER) for _ in range(4)] == [0, 0, len(A) - 1, len(A) - 1]


@each_strategy
def test_only_branch_points_and_ends_are_cached(setup: Setup) -> None:
    load = server(setup, MARCONI)
    load.serve(A, ANSWER)
    end = len(A) + len(ANSWER) - 1 + setup.overlap
    assert states(load) == [end]
    assert load.cache.statistics.vetoed_states > 0


def test_stock_caches_every_chunk_and_the_prompt() -> None:
    load = server(STRATEGIES["no_buffer, chunks"], None)
    load.serve(A, ANSWER)
    assert states(load) == [16, 32, 48, len(A), len(A) + len(ANSWER) - 1]


@each_strategy
def test_a_conversation_keeps_its_last_states_under_pressure(setup: Setup) -> None:
    """History collapses: old turns give up their states, and the next turn hits all the same."""
    tight = Setup(2000, 6, chunk=setup.chunk, strategy=setup.strategy, overlap=setup.overlap)
    load = server(tight, MARCONI)
    history = list(A)
    for turn in range(12):
        output = list(range(1000 + 10 * turn, 1004 + 10 * turn))
        hit = load.serve(history, output)
        assert hit == (0 if turn == 0 else len(history) - 11 + setup.overlap)
        history += [*output, *range(2000 + 20 * turn, 2010 + 20 * turn)]
    load.check()
    assert load.cache.two_pool.evictions["states", "state"] > 0
    assert load.cache.two_pool.evictions["states", "leaf"] == 0


@pytest.mark.parametrize("chunk", [None, 64])
@pytest.mark.parametrize("strategy", ["no_buffer", "extra_buffer"])
def test_two_prompts_that_branch_in_one_batch(strategy: str, chunk: int | None) -> None:
    """One is cut at its branch point; the other is served uncut or waits, and none is lost."""
    setup = Setup(
        2000, 30, running=4, chunk=chunk, strategy=strategy, overlap=strategy == "extra_buffer"
    )
    load = server(setup, MARCONI)
    other = list(range(500, 560))
    load.serve(A, ANSWER)
    load.serve(other, ANSWER)
    for prompt in (B, [*other[:37], *range(600, 640)], C, list(range(700, 800))):
        load.submit(prompt, ANSWER)
    load.finish()
    load.check()
    assert len(load.hits) == 6
    assert load.cache.statistics.branch_states >= 1
    assert load.serve([*SHARED, 999], [1]) == 43


@each_strategy
def test_a_prompt_of_one_token(setup: Setup) -> None:
    load = server(setup, MARCONI)
    assert [load.serve([7], output) for output in ([1], [1, 2], [1])] == [0, 0, 0]
    load.check()


@each_strategy
def test_an_output_of_one_token_caches_the_prompt(setup: Setup) -> None:
    load = server(setup, MARCONI)
    load.serve(A, [1])
    assert load.serve([*A, 1, 5], [1]) == len(A) + setup.overlap


@pytest.mark.parametrize("strategy", ["no_buffer", "extra_buffer"])
def test_aborted_prompts_leave_no_states_on_probation(strategy: str) -> None:
    """Clients that go away while their prompt is computed; states are scarce, KVs are not."""
    overlap = strategy == "extra_buffer"
    setup = Setup(50_000, 40, running=4, chunk=32, context=8192, strategy=strategy, overlap=overlap)
    load = server(setup, MARCONI)
    for n in range(8):
        load.submit(list(range(1000 * n, 1000 * n + 197)), ANSWER)
        for _ in range(6):
            load.step()
        assert load.cache.on_probation
        load.abort_chunked()
        load.finish()
    load.check()
    assert not load.cache.on_probation and not load.cache.two_pool.evictions
    assert (
        load.cache.mamba_evictable_size() == 8
    )  # of each prompt the last, which frees its KVs too


@pytest.mark.parametrize("settings", [None, MARCONI], ids=["stock", "marconi"])
def test_a_batch_has_no_more_tokens_than_it_may(
    settings: MarconiSettings | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without chunked prefill; the second prompt has a branch point, but does not fit the batch."""
    adders = []

    def adder(*given: Any, **named: Any) -> PrefillAdder:
        adders.append(PrefillAdder(*given, **named))
        return adders[-1]

    monkeypatch.setattr(cpu_server, "PrefillAdder", adder)
    load = server(Setup(5000, 60, running=8, batch=100), settings)
    history = list(range(1000, 1300))
    load.serve(history, ANSWER)
    adders.clear()
    load.submit(list(range(5000, 5090)), ANSWER)
    load.submit([*history[:250], 7, 8, 9], ANSWER)
    load.finish()
    load.check()
    prefills = [made.log_input_tokens for made in adders if made.can_run_list]
    assert prefills == ([90, 253] if settings is None else [90, 250, 3])
