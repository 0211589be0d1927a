"""The server simulator against SGLang 0.5.6.post2's classes: each hit, and the tree after it."""

from dataclasses import replace

import pytest
from marconi_sglang.settings import MarconiSettings

from marconi_core.errors import PolicyError
from marconi_core.sim.server import PoolSizes, ServerPolicy, ServerSimulator
from marconi_core.sim.server.legacy import LegacyEviction, LegacyServerSimulator
from marconi_core.sim.server.policy import StockEviction
from marconi_core.sim.server.tree import Node
from tests.patch_v0_5_6.cpu_server import Setup
from tests.patch_v0_5_6.workloads import COSTS, SETTINGS, random_requests, server
from tests.sglang_cpu import conversations, equality
from tests.sglang_cpu.equality import policy_of

POOLS = ((300, 8), (200, 30), (2000, 8), (150, 3))
CHUNKS = (None, 16)
SEEDS = (0, 1)
REQUESTS = 80
TIGHT = Setup(300, 8)


def first_difference(
    setup: Setup,
    settings: MarconiSettings | None,
    seed: int,
    simulated: ServerPolicy | None = None,
    simulator: type[ServerSimulator] = LegacyServerSimulator,
    concurrent: bool = False,
) -> int | None:
    """Serve a workload on both; return the request after which they differ."""
    twin = simulator(
        PoolSizes(setup.kv_tokens, setup.states),
        simulated or policy_of(settings),
        COSTS,
        setup.chunk,
    )
    requests = random_requests(seed, REQUESTS)
    return equality.first_difference(server(setup, settings, concurrent), twin, requests)


@pytest.mark.parametrize("pools", POOLS, ids=str)
@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize("name", SETTINGS)
def test_the_simulator_predicts_every_hit_and_the_whole_tree(
    name: str, chunk: int | None, pools: tuple[int, int]
) -> None:
    for seed in SEEDS:
        assert first_difference(Setup(*pools, chunk=chunk), SETTINGS[name], seed) is None


@pytest.mark.parametrize("pools", POOLS, ids=str)
@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize("name", ["admission only", "alpha 1"])
def test_states_on_probation(name: str, chunk: int | None, pools: tuple[int, int]) -> None:
    """A server for several requests at a time, which come one by one all the same."""
    simulated = replace(policy_of(SETTINGS[name]), probation=True)
    setup = Setup(*pools, chunk=chunk)
    assert first_difference(setup, SETTINGS[name], 0, simulated, concurrent=True) is None


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
    assert len(SETTINGS) * len(CHUNKS) * len(POOLS) * len(SEEDS) * REQUESTS >= 5_000


# Negative controls: a simulator that is wrong in one point is found out.


@pytest.mark.parametrize("name", ["stock", "admission only", "alpha 1"])
def test_the_newer_release_is_found_out(name: str) -> None:
    setup = Setup(200, 5)
    assert first_difference(setup, SETTINGS[name], 0, simulator=ServerSimulator) is not None


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
