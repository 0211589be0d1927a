"""The server simulator against SGLang 0.5.6.post2's classes: each hit, and the tree after it."""

from dataclasses import replace

import pytest

from marconi_core.errors import PolicyError
from marconi_core.sim.server import PoolSizes, ServerSimulator
from marconi_core.sim.server.legacy import LegacyEviction, LegacyServerSimulator
from marconi_core.sim.server.policy import StockEviction
from marconi_core.sim.server.tree import Node
from tests.patch_v0_5_6.cpu_server import Setup
from tests.patch_v0_5_6.workloads import COSTS, SETTINGS, server
from tests.sglang_cpu import conversations, equality
from tests.sglang_cpu.equality import policy_of
from tests.sglang_cpu.pairs import (  # noqa: F401 - collected here
    Pair,
    test_states_on_probation,
    test_the_simulator_predicts_every_hit_and_the_whole_tree,
)

PAIR = Pair(server, Setup, LegacyServerSimulator, requests=80)
first_difference = PAIR.first_difference
TIGHT = Setup(300, 8)


@pytest.fixture
def pair() -> Pair:
    """What `tests.sglang_cpu.pairs` compares."""
    return PAIR


@conversations.each_case
def test_the_first_requests_of_real_conversations(
    family: str, name: str, pools: tuple[int, int]
) -> None:
    tuned = name == "tuned"
    real = server(Setup(*pools, chunk=512), SETTINGS["alpha 0" if tuned else name])
    conversations.follow(real, "0.5.6.post2", family, tuned)
    assert sum(real.hits.values()) > 0


@pytest.mark.parametrize("name", ["stock", "alpha 0"])
def test_the_longest_request_that_fits(name: str) -> None:
    """Both serve it, with a hit too, and both refuse the next longer one."""
    real = server(TIGHT, SETTINGS[name])
    twin = LegacyServerSimulator(PoolSizes(300, 8), policy_of(SETTINGS[name]), COSTS)
    requests = [(list(range(20)), [1, 2]), (list(range(289)), list(range(10))), ([7] * 299, [1])]
    for longest in ((list(range(298)), [1]), (list(range(100, 102)), list(range(297)))):
        assert equality.first_difference(real, twin, [*requests[:2], longest]) is None
    with pytest.raises(PolicyError, match="holds at most 299"):
        twin.serve(*requests[2])
    with pytest.raises(AssertionError, match="fits no pool"):
        real.serve(*requests[2])


def test_enough_requests_are_compared() -> None:
    assert PAIR.compared >= 5_000


# Negative controls: a simulator that is wrong in one point is found out.


@pytest.mark.parametrize("name", ["stock", "admission only", "alpha 1"])
def test_the_newer_release_is_found_out(name: str) -> None:
    setup = Setup(200, 5)
    newer = replace(PAIR, simulator=ServerSimulator)
    assert newer.first_difference(setup, SETTINGS[name], 0) is not None


def test_refreshing_the_used_state_only_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    legacy = LegacyEviction.evict

    def evict(self: LegacyEviction, tokens: int, states: int) -> tuple[int, int]:
        return (StockEviction.evict if states else legacy)(self, tokens, states)

    monkeypatch.setattr(LegacyEviction, "evict", evict)
    assert first_difference(TIGHT, None, 0) is not None


def test_stranded_kvs_that_stay_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def drop(self: LegacyEviction, node: Node) -> tuple[int, int]:
        return self.tree.drop_leaf(node)

    monkeypatch.setattr(LegacyEviction, "_drop_leaf", drop)
    assert first_difference(TIGHT, None, 0) is not None


def test_another_headroom_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(LegacyServerSimulator, "_evict")
    assert first_difference(TIGHT, None, 0) is not None


@pytest.mark.parametrize(
    ("name", "simulated"),
    [
        ("stock", "admission only"),
        ("admission only", "stock"),
        ("admission only", "alpha 0"),
        ("alpha 0", "alpha 1"),
        ("alpha 1", "alpha 1, lambda 0"),
        ("alpha 1", "seglen"),
    ],
)
def test_another_policy_is_found_out(name: str, simulated: str) -> None:
    assert first_difference(TIGHT, SETTINGS[name], 0, policy_of(SETTINGS[simulated])) is not None
