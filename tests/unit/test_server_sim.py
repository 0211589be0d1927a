"""The server simulator by itself; tests/patch holds it against SGLang's own classes."""

from dataclasses import replace

import pytest

from marconi_core.errors import PolicyError
from marconi_core.models.paper import Geometry, PaperModel
from marconi_core.policies.two_pool import EvictionSettings
from marconi_core.sim.server import (
    ADMISSION_ONLY,
    STOCK,
    PoolSizes,
    ServerPolicy,
    ServerSimulator,
    marconi,
)
from tests.unit.random_serving import serve_at_random

COSTS = PaperModel(Geometry(3, 1, 0, d=32, n=8))
POLICIES = {
    "stock": STOCK,
    "admission only": replace(ADMISSION_ONLY, branch_gain=1),
    "marconi": marconi(1.0, branch_gain=1),
    "seglen": marconi(0.85, objective="seglen", branch_gain=1),
}
each_policy = pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)

SHARED = list(range(43))
A, B, C = [*SHARED, 100, 101], [*SHARED, 200, 201], [*SHARED, 300]
ANSWER = [7, 8, 9]


def serve_all(simulator: ServerSimulator, *prompts: list[int]) -> list[int]:
    return [simulator.serve(prompt, ANSWER).hit for prompt in prompts]


def test_marconi_hits_a_shared_prefix_from_the_third_prompt_on() -> None:
    roomy = PoolSizes(2000, 30)
    assert serve_all(ServerSimulator(roomy, marconi(branch_gain=1), COSTS), A, B, C, C) == [
        0,
        0,
        43,
        43,
    ]
    assert serve_all(ServerSimulator(roomy, STOCK), A, B, C, C) == [0, 0, 0, 0]


def test_a_state_that_saves_too_little_is_not_kept_at_a_branch_point() -> None:
    """B and C part from A 43 tokens from the start, where no state is."""
    for gain, hit in ((43, 43), (44, 0)):
        simulator = ServerSimulator(PoolSizes(2000, 30), marconi(branch_gain=gain), COSTS)
        assert serve_all(simulator, A, B, C) == [0, 0, hit]


def test_branch_points_are_reported() -> None:
    simulator = ServerSimulator(PoolSizes(2000, 30), marconi(branch_gain=1), COSTS)
    assert [simulator.serve(prompt, ANSWER).branch for prompt in (A, B, C)] == [None, 43, None]


@each_policy
@pytest.mark.parametrize("chunk", [None, 8])
def test_no_slot_is_lost_and_no_hit_is_invented(policy: ServerPolicy, chunk: int | None) -> None:
    simulator = ServerSimulator(PoolSizes(250, 7), policy, COSTS, chunk)
    serve_at_random(simulator, longest_output=9)


def test_pressure_costs_hits_and_room_gives_them_back() -> None:
    prompts = [[*range(100 * i, 100 * i + 40)] for i in range(8)]
    tight = ServerSimulator(PoolSizes(2000, 5), marconi(branch_gain=1), COSTS)
    roomy = ServerSimulator(PoolSizes(2000, 50), marconi(branch_gain=1), COSTS)
    turns = [[*prompt, *ANSWER, 1] for prompt in prompts]
    assert sum(serve_all(tight, *prompts, *turns)) < sum(serve_all(roomy, *prompts, *turns))
    assert roomy.first_eviction == 0 and tight.first_eviction == 4


def test_flushing_forgets_everything() -> None:
    simulator = ServerSimulator(PoolSizes(200, 6), marconi(1.0, branch_gain=1), COSTS)
    first = serve_all(simulator, A, B, C, A)
    simulator.flush()
    assert simulator.tree() == {} and simulator.free_tokens == 200 and simulator.free_states == 6
    assert serve_all(simulator, A, B, C, A) == first


@each_policy
def test_a_copy_goes_its_own_way(policy: ServerPolicy) -> None:
    """Also one of a conversation of many turns, whose tree is deep."""
    simulator = ServerSimulator(PoolSizes(4_000, 400), policy, COSTS)
    history = [1]
    for turn in range(600):
        simulator.serve(history, [2, 3])
        history = [*history, 2, 3, turn]
    twin = simulator.copy()
    before = simulator.tree()
    expected = ServerSimulator.serve(simulator.copy(), [*history, 9], ANSWER).hit
    for start in range(5_000, 5_900, 3):
        twin.serve(range(start, start + 3), ANSWER)
    assert simulator.tree() == before != twin.tree()
    assert simulator.serve([*history, 9], ANSWER).hit == expected > 1_000


def test_alpha_can_change_while_serving() -> None:
    simulator = ServerSimulator(PoolSizes(200, 6), marconi(0.0, branch_gain=1), COSTS)
    simulator.configure(EvictionSettings(alpha=2.0))
    assert simulator.policy.eviction == EvictionSettings(alpha=2.0)
    with pytest.raises(PolicyError, match="stock eviction has no settings"):
        ServerSimulator(PoolSizes(200, 6)).configure(EvictionSettings())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PoolSizes(100, 2), "at least 3 state slots, not 2"),
        (lambda: PoolSizes(2, 5), "2 KV tokens holds no request"),
        (
            lambda: ServerSimulator(PoolSizes(99, 9), marconi(branch_gain=1)),
            "needs the model's costs",
        ),
        (lambda: ServerSimulator(PoolSizes(99, 9), chunk=0), "chunk of 0 tokens is impossible"),
        (lambda: ServerSimulator(PoolSizes(99, 9)).serve([], [1]), "at least one prompt token"),
        (lambda: ServerSimulator(PoolSizes(99, 9)).serve([1], []), "and one output token"),
        (
            lambda: ServerSimulator(PoolSizes(99, 9)).serve([1] * 90, [1] * 9),
            "request 1 has 99 tokens; a pool of 99 KV tokens holds at most 97",
        ),
    ],
)
def test_what_cannot_be_is_named(make: object, message: str) -> None:
    assert callable(make)
    with pytest.raises(PolicyError, match=message):
        make()
