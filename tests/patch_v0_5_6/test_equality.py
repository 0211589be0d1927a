"""The server simulator against SGLang 0.5.6.post2's classes: each hit, and the tree after it."""

import pytest
from marconi_sglang.settings import MarconiSettings

from marconi_core.sim.server import ADMISSION_ONLY, STOCK, PoolSizes, ServerPolicy, ServerSimulator
from marconi_core.sim.server.legacy import LegacyEviction, LegacyServerSimulator
from marconi_core.sim.server.policy import StockEviction
from marconi_core.sim.server.tree import Node
from tests.patch_v0_5_6.cpu_server import Setup
from tests.patch_v0_5_6.workloads import COSTS, SETTINGS, random_requests, server

POOLS = ((300, 8), (200, 30), (2000, 8), (150, 3))
CHUNKS = (None, 16)
SEEDS = (0, 1)
REQUESTS = 80
TIGHT = Setup(300, 8)


def policy_of(settings: MarconiSettings | None) -> ServerPolicy:
    if settings is None:
        return STOCK
    if settings.eviction is None:
        return ADMISSION_ONLY
    return ServerPolicy("branch_points", settings.eviction)


def first_difference(
    setup: Setup,
    settings: MarconiSettings | None,
    seed: int,
    simulated: ServerPolicy | None = None,
    simulator: type[ServerSimulator] = LegacyServerSimulator,
) -> int | None:
    """Serve a workload on both; return the request after which they differ."""
    real = server(setup, settings)
    policy = simulated or policy_of(settings)
    twin = simulator(PoolSizes(setup.kv_tokens, setup.states), policy, COSTS, setup.chunk)
    for number, (prompt, output) in enumerate(random_requests(seed, REQUESTS)):
        if real.serve(prompt, output) != twin.serve(prompt, output).hit:
            return number
        if real.tree() != twin.tree():
            return number
        assert real.kvs.available_size() == twin.free_tokens
        assert real.requests.mamba_pool.available_size() == twin.free_states
    real.check()
    return None


@pytest.mark.parametrize("pools", POOLS, ids=str)
@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize("name", SETTINGS)
def test_the_simulator_predicts_every_hit_and_the_whole_tree(
    name: str, chunk: int | None, pools: tuple[int, int]
) -> None:
    for seed in SEEDS:
        assert first_difference(Setup(*pools, chunk=chunk), SETTINGS[name], seed) is None


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
