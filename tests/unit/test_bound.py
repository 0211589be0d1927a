"""The bounds on what any cache can serve, against the optimum of tiny traces and every policy."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marconi_core.experiments.regret import WITHIN_CAPACITY
from marconi_core.models.paper import Geometry
from marconi_core.policies import POLICIES
from marconi_core.policies.flop_aware import costs
from marconi_core.sim.bound import Chances, bounds, chances
from marconi_core.sim.simulation import Simulator
from marconi_core.traces.trace import Request, Trace

MODEL = Geometry(num_ssm_layers=3, num_attn_layers=2, num_mlp_layers=4, d=8, n=4)
COSTS = costs(MODEL)
SEQUENCE = COSTS.state_bytes + COSTS.kv_bytes * 20

Pair = tuple[list[int], list[int]]


def traced(requests: list[Pair]) -> Trace:
    return Trace.build(Request(i, 0, float(i), *pair) for i, pair in enumerate(requests))


@st.composite
def requests(draw: st.DrawFn, most: int) -> list[Pair]:
    """Requests that start like earlier ones."""
    made: list[Pair] = []
    for _ in range(draw(st.integers(1, most))):
        start: list[int] = []
        if made and draw(st.booleans()):
            prompt, output = made[draw(st.integers(0, len(made) - 1))]
            start = (prompt + output)[: draw(st.integers(1, 30))]
        fresh = draw(st.lists(st.integers(1, 3), min_size=1, max_size=15))
        made.append((start + fresh, draw(st.lists(st.integers(1, 3), max_size=8))))
    return made


def optimum(found: Chances, capacity: float) -> int:
    """Try every combination of hits; what is kept between two requests is counted anew."""
    pieces = [
        list(zip(found.since[a:b].tolist(), found.tokens[a:b].tolist(), strict=True))
        for a, b in zip(found.first[:-1], found.first[1:], strict=True)
    ]
    best = 0
    for chosen in product(*(range(len(own) + 1) for own in pieces)):
        kept = np.zeros(len(pieces))
        for i, (own, count) in enumerate(zip(pieces, chosen, strict=True)):
            for since, tokens in own[:count]:
                kept[since:i] += COSTS.kv_bytes * tokens
            if count:
                kept[own[count - 1][0] : i] += COSTS.state_bytes
        if (kept <= capacity).all():
            served = sum(t for own, c in zip(pieces, chosen, strict=True) for _, t in own[:c])
            best = max(best, served)
    return best


@settings(max_examples=60, deadline=None)
@given(requests(most=7), st.floats(0.5, 4))
def test_the_optimum_lies_between_schedule_and_bound(pairs: list[Pair], room: float) -> None:
    trace, capacity = traced(pairs), room * SEQUENCE
    found = chances(trace)
    result = bounds(trace, found, COSTS, capacity)
    best = optimum(found, capacity)
    assert result.schedule <= best <= result.upper <= result.unlimited


@settings(max_examples=40, deadline=None)
@given(requests(most=40), st.floats(2, 8))
def test_no_policy_serves_more_than_the_bound(pairs: list[Pair], room: float) -> None:
    trace, capacity = traced(pairs), room * SEQUENCE
    simulator = Simulator(trace, MODEL, corrections=WITHIN_CAPACITY)
    upper = bounds(trace, chances(trace), COSTS, capacity).upper
    for policy in POLICIES.values():
        for alpha in (0.0, 1.0) if policy.alpha == "static" else (None,):
            assert simulator.run(policy.name, capacity, alpha=alpha).skipped_tokens <= upper


def test_an_unlimited_cache_serves_every_prefix_seen_before() -> None:
    trace = traced([([1, 2, 3], [4]), ([1, 2, 3, 4, 5], [6]), ([1, 2, 9], [9])])
    assert bounds(trace, chances(trace), COSTS, 1e12) == (6, 6, 6)


def test_without_room_for_a_state_nothing_is_served() -> None:
    trace = traced([([1, 2, 3], [4]), ([1, 2, 3, 4, 5], [6])])
    assert bounds(trace, chances(trace), COSTS, COSTS.state_bytes / 2).schedule == 0


def test_room_for_one_of_two_conversations() -> None:
    """Two conversations take turns; the longer one is worth keeping, and only that one fits."""
    long, short = [1] * 20, [2] * 5
    trace = traced([(long, []), (short, []), (long + [1], []), (short + [2], [])])
    result = bounds(trace, chances(trace), COSTS, SEQUENCE)
    assert result.schedule == 20 <= result.upper < 25


@pytest.mark.parametrize("room", [0.7, 1.9])
def test_the_same_twice(room: float) -> None:
    pairs = [([i % 5 + 1] * (i % 17 + 1), [1]) for i in range(60)]
    trace = traced(pairs)
    one = bounds(trace, chances(trace), COSTS, room * SEQUENCE)
    assert one == bounds(trace, chances(trace), COSTS, room * SEQUENCE)
