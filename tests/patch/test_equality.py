"""The server simulator against SGLang's own classes: each hit, and the whole tree after it."""

import pytest

from marconi_core.policies.two_pool import EvictionSettings
from marconi_core.sim.server import (
    ADMISSION_ONLY,
    STOCK,
    PoolSizes,
    ServerPolicy,
    ServerSimulator,
    engine,
)
from marconi_core.sim.server.tree import Node, ServerTree
from tests.patch.cpu_server import Setup
from tests.patch.workloads import COSTS, SETTINGS, random_requests, server
from tests.sglang_cpu import conversations
from tests.sglang_cpu.equality import policy_of
from tests.sglang_cpu.pairs import (  # noqa: F401 - collected here
    CHUNKS,
    Pair,
    test_states_on_probation,
    test_the_simulator_predicts_every_hit_and_the_whole_tree,
)

PAIR = Pair(server, Setup, ServerSimulator, requests=200)
first_difference = PAIR.first_difference
TIGHT = Setup(300, 8)


@pytest.fixture
def pair() -> Pair:
    """What `tests.sglang_cpu.pairs` compares."""
    return PAIR


@pytest.mark.parametrize("chunk", CHUNKS)
def test_a_change_of_alpha_while_serving(chunk: int | None) -> None:
    """What the tuner does: the same caches go on with another alpha."""
    setup = Setup(300, 8, chunk=chunk)
    real = server(setup, SETTINGS["alpha 0"])
    simulator = ServerSimulator(PoolSizes(300, 8), policy_of(SETTINGS["alpha 0"]), COSTS, chunk)
    for number, (prompt, output) in enumerate(random_requests(0, 300)):
        if number in (80, 160):
            tuned = EvictionSettings(alpha=0.7 if number == 80 else 2.0)
            real.cache.two_pool.configure(tuned)
            simulator.configure(tuned)
        assert real.serve(prompt, output) == simulator.serve(prompt, output).hit
        assert real.tree() == simulator.tree()


@conversations.each_case
def test_the_first_requests_of_real_conversations(
    family: str, name: str, pools: tuple[int, int]
) -> None:
    tuned = name == "tuned"
    real = server(Setup(*pools, chunk=512), SETTINGS["alpha 0" if tuned else name])
    conversations.follow(real, "no_buffer", family, tuned)
    assert sum(real.hits.values()) > 0


def test_enough_requests_are_compared() -> None:
    assert PAIR.compared >= 20_000


# Negative controls: a simulator that is wrong in one point is found out.


def test_another_headroom_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "HEADROOM", 2)
    assert first_difference(TIGHT, None, 0) is not None


def test_a_split_that_does_not_refresh_the_lower_state_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    split = ServerTree._split

    def without_refresh(tree: ServerTree, child: Node, length: int) -> Node:
        order = dict(tree.states)
        upper = split(tree, child, length)
        tree.states = order
        return upper

    monkeypatch.setattr(ServerTree, "_split", without_refresh)
    assert first_difference(TIGHT, None, 0) is not None


def test_a_finish_that_leaves_out_the_last_kv_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    insert = ServerSimulator._insert
    monkeypatch.setattr(
        ServerSimulator,
        "_insert",
        lambda self, sequence, request: insert(self, sequence[:-1], request),
    )
    assert first_difference(TIGHT, None, 0) is not None


@pytest.mark.parametrize(
    ("name", "simulated"),
    [
        ("stock", ADMISSION_ONLY),
        ("admission only", STOCK),
        ("alpha 0", policy_of(SETTINGS["alpha 1"])),
        ("alpha 1", policy_of(SETTINGS["alpha 1, lambda 0"])),
        ("alpha 1", policy_of(SETTINGS["seglen"])),
        ("alpha 0", ADMISSION_ONLY),
    ],
)
def test_another_policy_is_found_out(name: str, simulated: ServerPolicy) -> None:
    assert first_difference(TIGHT, SETTINGS[name], 0, simulated) is not None


def test_lru_is_alpha_0() -> None:
    assert first_difference(TIGHT, SETTINGS["lru"], 0, policy_of(SETTINGS["alpha 0"])) is None
