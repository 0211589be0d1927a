"""Many requests in flight under pressure of both pools: no wrong state or KV, nothing leaked."""

from typing import Any

import pytest
from sglang.srt.marconi.cache import BranchPointCache

from tests.patch_v0_5_6.cpu_server import Setup
from tests.patch_v0_5_6.workloads import SETTINGS, server
from tests.sglang_cpu.memory import WrongMemoryError
from tests.sglang_cpu.workloads import run_load


def setup_for(running: int, chunk: int | None = 16) -> Setup:
    """Pools so small that both are short most of the time."""
    return Setup(150 + 140 * running, 3 * running + 6, running, chunk)


@pytest.mark.parametrize("running", [1, 2, 4, 8])
@pytest.mark.parametrize("chunk", [None, 32])
@pytest.mark.parametrize("name", ["stock", "admission only", "alpha 0", "alpha 1", "seglen"])
def test_contents(name: str, chunk: int | None, running: int) -> None:
    done = run_load(server(setup_for(running, chunk), SETTINGS[name]), running)
    assert len(done.hits) == 150 and sum(done.hits.values()) > 0
    if name != "stock":
        statistics = done.cache.statistics
        assert statistics.requests == len(done.hits)
        assert statistics.hit_tokens == sum(done.hits.values())
        assert statistics.branch_states > 0
        assert done.cache.on_probation == {}


@pytest.mark.parametrize("seed", range(3, 7))
@pytest.mark.parametrize("name", ["admission only", "alpha 1"])
def test_retracted_and_aborted_requests_leave_nothing_behind(name: str, seed: int) -> None:
    load = server(setup_for(4), SETTINGS[name])
    run_load(load, seed, retract=0.05, abort=0.05)
    assert load.retractions > 10 and load.aborts > 5


def test_stock_frees_what_is_not_its_own_when_a_retracted_request_is_aborted() -> None:
    """SGLang 0.5.6.post2 forgets that a retracted request has given up its place and its locks."""
    with pytest.raises(AssertionError, match="dec_lock_ref on node with"):
        run_load(server(setup_for(4), None), 3, retract=0.05, abort=0.05)


@pytest.mark.parametrize("name", ["stock", "admission only", "alpha 1"])
def test_flushing_forgets_everything(name: str) -> None:
    load = run_load(server(setup_for(2), SETTINGS[name]), 0)
    load.flush()
    load.check()
    assert load.tree() == {}
    again = run_load(load, 0)
    assert again.tree() == run_load(server(setup_for(2), SETTINGS[name]), 0).tree()


# What the check of contents is worth: known faults are found.


def test_a_state_cached_at_the_wrong_place_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    insert = BranchPointCache.insert
    monkeypatch.setattr(
        BranchPointCache,
        "insert",
        lambda self, key, value, state: insert(self, key[:-1], value[:-1], state),
    )
    load = server(setup_for(1), SETTINGS["alpha 0"])
    load.serve(list(range(20)), [1, 2])
    with pytest.raises((WrongMemoryError, AssertionError)):
        load.check()


def test_claiming_kvs_of_the_tree_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sglang.srt.marconi.cache.leave_to_tree", lambda req: None)
    with pytest.raises(AssertionError):
        run_load(server(setup_for(1), SETTINGS["alpha 0"]), 0)


def test_a_state_that_keeps_its_slot_when_given_up_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def leaking(self: Any, node: Any) -> None:
        self.mamba_lru_list.remove_node(node)
        self._tombstone_internal_node(node)

    monkeypatch.setattr(BranchPointCache, "_give_up_state", leaking)
    with pytest.raises(AssertionError, match=r"leaked|Can not alloc|Not enough space"):
        run_load(server(setup_for(4), SETTINGS["alpha 0"]), 0)
