"""What every registered policy must keep, on workloads of every kind. A new policy is in on its own."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from marconi_core.models import MODELS
from marconi_core.policies import POLICIES, Policy
from marconi_core.policies.tuner import ALPHA_GRID
from marconi_core.sim.digests import cached_nodes
from marconi_core.sim.simulation import Simulation, Simulator
from marconi_core.traces.arrivals import PoissonArrivals
from marconi_core.traces.describe import shared_prefixes
from marconi_core.traces.sources import load_workload
from marconi_core.traces.trace import Trace

MODEL = MODELS["paper_7b"]
AMPLE = 1e15
KINDS = ("agent", "chat", "few_shot")

each_policy = pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
each_kind = pytest.mark.parametrize("kind", KINDS)


@cache
def workload(kind: str) -> Trace:
    compiled = load_workload("synthetic", {"sessions": 40, "mix": {kind: 1.0}, "seed": 3})
    arrivals = PoissonArrivals(sessions_per_second=1, mean_response_time=5)
    return compiled.schedule(arrivals.timestamps(compiled))


def tight(trace: Trace) -> float:
    """Bytes that hold about eight of the longest sequences."""
    longest = int(trace.tree.depth.max())
    return 8.0 * (MODEL.state_bytes + MODEL.kv_bytes * longest)


def run(policy: Policy, trace: Trace, capacity: float) -> Simulation:
    alpha = 0.5 if policy.alpha == "static" else None
    return Simulator(trace, MODEL).run(
        policy.name, capacity, alpha=alpha, bootstrap_multiplier=2, log=True
    )


@each_policy
@each_kind
def test_a_hit_is_a_prefix_seen_before(policy: Policy, kind: str) -> None:
    trace = workload(kind)
    seen = np.maximum(*shared_prefixes(trace))
    for capacity in (tight(trace), AMPLE):
        assert (run(policy, trace, capacity).skipped <= seen).all()


@each_policy
@each_kind
def test_pressure_evicts_and_room_does_not(policy: Policy, kind: str) -> None:
    trace = workload(kind)
    pressed, roomy = run(policy, trace, tight(trace)), run(policy, trace, AMPLE)
    assert roomy.evict_calls == roomy.evicted.sum() == 0 and roomy.first_eviction == 0
    assert pressed.evict_calls > 0
    assert pressed.evicted.sum() == pressed.leaf_evictions + pressed.internal_evictions
    assert pressed.evicted.sum() == len(pressed.evictions.request)
    assert pressed.skipped_tokens <= roomy.skipped_tokens


@each_policy
@each_kind
def test_the_same_run_twice_is_the_same(policy: Policy, kind: str) -> None:
    trace = workload(kind)
    one, other = run(policy, trace, tight(trace)), run(policy, trace, tight(trace))
    assert (one.skipped == other.skipped).all()
    assert list(cached_nodes(one)) == list(cached_nodes(other))
    assert one.alpha == other.alpha and one.clock == other.clock


@each_kind
def test_runs_that_share_a_simulator_are_as_if_alone(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One simulator runs a whole sweep; tuners then take replays of other policies for their own."""
    tuned = replace(POLICIES["marconi"], name="tuned_aligned", alignment=64)
    static = replace(POLICIES["oracle"], name="static_aligned", alignment=64)
    for policy in (tuned, static):
        monkeypatch.setitem(POLICIES, policy.name, policy)
    trace = workload(kind)
    shared = Simulator(trace, MODEL)
    for alpha in ALPHA_GRID:
        shared.run("oracle", tight(trace), alpha=alpha)
    for policy in [*POLICIES.values(), tuned]:
        alone = run(policy, trace, tight(trace))
        alpha = 0.5 if policy.alpha == "static" else None
        together = shared.run(policy.name, tight(trace), alpha=alpha, bootstrap_multiplier=2)
        assert (together.skipped == alone.skipped).all() and together.alpha == alone.alpha


@each_policy
@each_kind
def test_the_final_cache_is_accounted_for(policy: Policy, kind: str) -> None:
    trace = workload(kind)
    result = run(policy, trace, tight(trace))
    nodes = list(cached_nodes(result))
    size = MODEL.state_bytes * len(nodes) + MODEL.kv_bytes * sum(len(n.tokens) for n in nodes)
    assert size <= result.peak_bytes
    assert sum(n.children for n in nodes) == sum(n.level > 1 for n in nodes)


@each_kind
def test_sglang_plus_stays_within_its_capacity(kind: str) -> None:
    """The other policies exceed theirs, as in the paper's simulator."""
    trace = workload(kind)
    assert run(POLICIES["sglang_plus"], trace, tight(trace)).peak_bytes <= tight(trace)


@each_kind
def test_with_room_a_continued_conversation_hits_in_full(kind: str) -> None:
    """The last decoded token's state is kept, so a prompt that extends a sequence finds it."""
    trace = workload(kind)
    same_session, _ = shared_prefixes(trace)
    previous_end = np.zeros(len(trace), np.int64)
    ends: dict[int, int] = {}
    for i, session in enumerate(trace.session.tolist()):
        previous_end[i] = ends.get(session, 0)
        ends[session] = int(trace.tree.depth[trace.out_node[i]])
    continues = same_session == previous_end
    skipped = run(POLICIES["marconi"], trace, AMPLE).skipped
    assert (skipped[continues] >= previous_end[continues]).all()
