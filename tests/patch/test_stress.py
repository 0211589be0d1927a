"""Many requests in flight under pressure of both pools: no wrong state or KV, nothing leaked."""

from dataclasses import replace
from typing import Any

import pytest
from marconi_sglang.cache import run_now
from marconi_sglang.components import BranchPointAdmission, ExactAdmission

from marconi_core.policies.two_pool import HEADROOM
from marconi_core.sim.server.settings import MarconiSettings
from tests.patch.cpu_server import Setup, WrongMemoryError
from tests.patch.workloads import SETTINGS, server
from tests.sglang_cpu.workloads import EVERY_BRANCH, run_load

STRATEGIES = ("no_buffer", "extra_buffer")


def setup_for(strategy: str, running: int, chunk: int | None) -> Setup:
    """Pools so small that both are short most of the time."""
    return Setup(
        kv_tokens=150 + 140 * running,
        states=3 * running + 6,
        running=running,
        chunk=chunk,
        strategy=strategy,
        overlap=strategy == "extra_buffer",
    )


@pytest.mark.parametrize("running", [1, 2, 4, 8])
@pytest.mark.parametrize("chunk", [None, 32])
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("name", ["admission only", "alpha 0", "alpha 1", "seglen"])
def test_marconi(name: str, strategy: str, chunk: int | None, running: int) -> None:
    setup = setup_for(strategy, running, chunk)
    done = run_load(server(setup, SETTINGS[name]), running)
    assert len(done.hits) == 150 and sum(done.hits.values()) > 0
    statistics = done.cache.statistics
    assert statistics.requests == len(done.hits)
    assert statistics.hit_tokens == sum(done.hits.values())
    assert statistics.branch_states > 0


@pytest.mark.parametrize("running", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("name", ["admission only", "alpha 1"])
def test_three_slots_a_request_are_enough(name: str, strategy: str, running: int) -> None:
    """So many there are, at least, for each request that the server lets run (`most_running`)."""
    setup = replace(setup_for(strategy, running, 32), states=HEADROOM * running)
    for seed in range(3):
        load = run_load(server(setup, SETTINGS[name]), seed, retract=0.02, abort=0.02)
        assert len(load.hits) > 120


@pytest.mark.parametrize("running", [1, 2, 4, 8])
@pytest.mark.parametrize("chunk", [None, 32])
def test_stock_without_buffers(chunk: int | None, running: int) -> None:
    run_load(server(setup_for("no_buffer", running, chunk), None), running)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("name", ["admission only", "alpha 1"])
def test_retracted_and_aborted_requests_leave_nothing_behind(name: str, strategy: str) -> None:
    load = server(setup_for(strategy, 4, 16), SETTINGS[name])
    run_load(load, 3, retract=0.05, abort=0.05)
    assert load.retractions > 10 and load.aborts > 5


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_requests_retracted_for_want_of_memory(strategy: str) -> None:
    setup = Setup(150, 18, running=4, strategy=strategy, overlap=strategy == "extra_buffer")
    load = run_load(server(setup, SETTINGS["alpha 1"], new_token_ratio=0.0), 0)
    assert load.retractions > 0


@pytest.mark.parametrize("name", ["stock", "admission only", "alpha 1"])
def test_flushing_forgets_everything(name: str) -> None:
    load = run_load(server(setup_for("no_buffer", 2, 16), SETTINGS[name]), 0)
    load.flush()
    load.check()
    assert load.tree() == {}
    again = run_load(load, 0)
    fresh = run_load(server(setup_for("no_buffer", 2, 16), SETTINGS[name]), 0)
    assert again.tree() == fresh.tree()


# What the check of contents is worth: known faults are found.


def run_seeds(settings: MarconiSettings | None, in_order: bool = True) -> None:
    for seed in range(4):
        load = server(setup_for("extra_buffer", 4, 32), settings)
        if not in_order:
            load.cache.enqueue = run_now
        run_load(load, seed)


def test_stock_track_buffers_cache_wrong_states() -> None:
    """SGLang 0.5.16 swaps its two track buffers twice when a prefill follows a track boundary."""
    with pytest.raises(WrongMemoryError):
        run_seeds(None)


def test_a_copy_out_of_order_is_found() -> None:
    with pytest.raises(WrongMemoryError):
        run_seeds(SETTINGS["alpha 1"], in_order=False)


def test_a_finished_key_that_is_a_token_short_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    prepare = ExactAdmission.prepare_for_caching_req

    def short(
        self: Any, req: Any, insert_params: Any, token_ids_len: int, is_finished: bool
    ) -> Any:
        length = prepare(self, req, insert_params, token_ids_len, is_finished)
        return length - 1 if is_finished and length else length

    monkeypatch.setattr(ExactAdmission, "prepare_for_caching_req", short)
    with pytest.raises(WrongMemoryError):
        run_load(server(setup_for("extra_buffer", 4, 32), SETTINGS["alpha 1"]), 0)


def test_a_copy_of_the_state_after_a_prompt_that_comes_late_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Under overlap, decoding has begun when SGLang offers the end of a prompt."""
    offer = ExactAdmission._offer_copy

    def late(self: Any, req: Any, insert_params: Any, position: int) -> Any:
        insert_params.chunked = True
        return offer(self, req, insert_params, position)

    monkeypatch.setattr(ExactAdmission, "_offer_copy", late)
    with pytest.raises(WrongMemoryError):
        run_load(server(setup_for("extra_buffer", 4, 32), SETTINGS["alpha 1"]), 0)


def test_a_veto_that_leaks_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slot taken for a state that is then not offered is never given back."""
    prepare = BranchPointAdmission.prepare_for_caching_req

    def leaking(self: Any, req: Any, insert_params: Any, *rest: Any, **options: Any) -> Any:
        length = prepare(self, req, insert_params, *rest, **options)
        if length == 0:
            self._alloc_mamba_slot()
        return length

    monkeypatch.setattr(BranchPointAdmission, "prepare_for_caching_req", leaking)
    load = server(setup_for("no_buffer", 2, 32), SETTINGS["alpha 1"], concurrent=False)
    with pytest.raises(AssertionError, match=r"leaked|Can not alloc|Not enough space"):
        run_load(load, 0)


def test_track_buffers_are_not_taken() -> None:
    """A running request holds one state slot, not three."""
    load = server(
        Setup(400, 10, strategy="extra_buffer", overlap=True), MarconiSettings(**EVERY_BRANCH)
    )
    load.submit(list(range(10)), list(range(10)))
    for _ in range(5):
        load.step()
    assert load.requests.mamba_allocator.available_size() == 9
    load.finish()
    load.check()


def test_the_hook_leaves_stock_track_buffers_alone() -> None:
    load = server(Setup(400, 10, strategy="extra_buffer", overlap=True), None)
    load.serve(list(range(20)), [1, 2])
    assert load.tree()[tuple(range(16))]
