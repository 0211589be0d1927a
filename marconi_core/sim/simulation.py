"""One simulation: a trace, a policy, a capacity, and what came of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import numpy as np
from numba import types
from numpy.typing import NDArray

from marconi_core.errors import ModelError, PolicyError
from marconi_core.jit import compiled_pointer
from marconi_core.models.cost import CostModel
from marconi_core.models.paper import FlopsSaved, Geometry, flops_saved
from marconi_core.policies import POLICIES, Policy, get_policy
from marconi_core.policies.base import Entry, Eviction
from marconi_core.policies.corrections import PAPER, Corrections
from marconi_core.policies.flop_aware import Costs, costs
from marconi_core.policies.tuner import ALPHA_GRID, Tuning, bootstrap_window, scored_part
from marconi_core.sim import blocks, radix
from marconi_core.sim.alignment import aligned
from marconi_core.sim.radix_eviction import FLOP_SCORE, OLDEST_LEAF, VALUE_RANK, VALUE_SCORE
from marconi_core.sim.records import Evictions, union_nodes
from marconi_core.traces.trace import Trace
from marconi_core.traces.tree import PrefixTree

CODE = (
    "jit",
    "models",
    "policies/__init__",
    "policies/base",
    "policies/candidates",
    "policies/catalogue",
    "policies/corrections",
    "policies/flop_aware",
    "policies/siblings",
    "policies/tuner",
    "sim/alignment",
    "sim/blocks",
    "sim/heap",
    "sim/leaf_order",
    "sim/radix",
    "sim/radix_eviction",
    "sim/radix_tree",
    "sim/records",
    "sim/ring",
    "sim/simulation",
    "traces/trace",
    "traces/tree",
)
"""The parts of the package whose code determines a result; not those of the server's simulator."""

EXACT = 2**53
"""Integers below this are exact as float64, which compiled scores rely on."""

ENTRY = types.NamedTuple([types.int64] * 2 + [types.int32] * 2 + [types.float64] * 3, Entry)
"""The compiled type of what a policy's own valuation takes."""

VALUATION = types.float64(ENTRY)


@dataclass(frozen=True, eq=False)
class Simulation:
    """The result of one replay.

    Attributes:
        skipped: int64[requests]; prompt tokens served from the cache.
        evicted: int32[requests]; nodes evicted to make room for the request.
        clock: the reference's logical clock at the end.
        first_eviction: requests seen at the first eviction, that one included; 0 for never.
        peak_bytes: most bytes cached after any insertion (the reference may exceed its capacity).
        alpha: weight of FLOP efficiency at the end; None for policies without.
        tuning: what the tuner tried; None when it never ran.
        evictions: log of evicted nodes; empty unless asked for.
        cached: the kernel's final cache, for `digests.cached_nodes`.
        tree: the union tree whose nodes name those of `cached`.
        block: tokens of a block, for policies that keep blocks.
    """

    trace: Trace
    policy: Policy
    capacity_bytes: float
    model: Geometry | CostModel
    bootstrap_multiplier: int
    skipped: NDArray[np.int64]
    evicted: NDArray[np.int32]
    clock: int
    first_eviction: int
    evict_calls: int
    leaf_evictions: int
    internal_evictions: int
    peak_bytes: int
    alpha: float | None
    tuning: Tuning | None
    evictions: Evictions
    cached: Any
    tree: PrefixTree
    block: int

    @property
    def input_tokens(self) -> int:
        return int(self.trace.n_in.sum())

    @property
    def skipped_tokens(self) -> int:
        return int(self.skipped.sum())

    @property
    def token_hit_rate(self) -> float:
        """Prompt tokens served from the cache / prompt tokens."""
        return self.skipped_tokens / self.input_tokens

    @property
    def request_hit_rate(self) -> float:
        """Requests with any token served from the cache / requests."""
        return int((self.skipped > 0).sum()) / len(self.skipped)

    @cached_property
    def flops_saved(self) -> FlopsSaved:
        return flops_saved(self.model, self.skipped.tolist())

    @property
    def window(self) -> int:
        """Bootstrap window in requests; 0 when the policy has none or nothing was evicted."""
        if self.policy.alpha != "tuned":
            return 0
        return bootstrap_window(self.bootstrap_multiplier, self.first_eviction)


def simulate(
    trace: Trace,
    policy: str,
    capacity_bytes: float,
    model: Geometry | CostModel,
    *,
    alpha: float | None = None,
    bootstrap_multiplier: int = 5,
    alphas: Sequence[float] = ALPHA_GRID,
    corrections: Corrections = PAPER,
    log: bool = False,
) -> Simulation:
    """Replay a trace under a policy, exactly as the paper's simulator does or corrected.

    Args:
        capacity_bytes: size of the cache.
        model: five numbers for the paper's formulas, or a cost model, such as real layers.
        alpha: weight of FLOP efficiency, for policies with a static one.
        bootstrap_multiplier: length of the tuner's window in multiples of the requests seen at the
            first eviction.
        alphas: the alphas the tuner tries.
        corrections: what to compute otherwise than in the paper's code.
        log: keep the log of evicted nodes.

    Raises:
        PolicyError: unknown policy, a setting it does not take, or a capacity no request fits.
        ModelError: the trace is too long for exact arithmetic with this model.
    """
    return Simulator(trace, model, alphas, corrections).run(
        policy, capacity_bytes, alpha=alpha, bootstrap_multiplier=bootstrap_multiplier, log=log
    )


_Key = tuple[Eviction, int, float, float]


def _key(policy: Policy, capacity: float, alpha: float) -> _Key:
    """Return what a replay with a static alpha depends on, beside trace and model."""
    return policy.eviction, policy.alignment, capacity, alpha


class Simulator:
    """Replays one trace for one model; runs at the same capacity share their static-alpha replays.

    Attributes:
        block: tokens of a block, for policies that keep blocks.
    """

    def __init__(
        self,
        trace: Trace,
        model: Geometry | CostModel,
        alphas: Sequence[float] = ALPHA_GRID,
        corrections: Corrections = PAPER,
        block: int = blocks.BLOCK,
    ) -> None:
        self.trace = trace
        self.model = model
        for alpha in alphas:
            _check_alpha(alpha)
        self.alphas = tuple(alphas)
        self.corrections = corrections
        self.block = block
        self._costs = costs(model, corrections)
        _check_exactness(trace, self._costs)
        self._trees: dict[int, _Tree] = {}
        self._static: dict[_Key, NDArray[np.int64]] = {}  # skipped tokens

    def run(
        self,
        policy: str,
        capacity_bytes: float,
        *,
        alpha: float | None = None,
        bootstrap_multiplier: int = 5,
        log: bool = False,
    ) -> Simulation:
        """Replay; see `simulate`."""
        chosen = get_policy(policy)
        self._check(chosen, capacity_bytes, alpha, bootstrap_multiplier)
        settings = (chosen, float(capacity_bytes), bootstrap_multiplier)
        if chosen.admission == "blocks":
            tree = self._tree(chosen)
            replayed = blocks.replay(
                tree.nodes, tree.in_node, tree.out_node, len(self.trace),
                self._costs, float(capacity_bytes), self.block, log,
            )  # fmt: skip
            return self._result(*settings, replayed)
        if chosen.alpha is None:
            return self._result(*settings, self._radix(*settings[:2], log=log))
        if chosen.alpha == "static":
            alpha = 0.0 if alpha is None else float(alpha)
            replayed = self._radix(*settings[:2], alpha=alpha, log=log)
            self._static[_key(chosen, float(capacity_bytes), alpha)] = replayed[0]
            return self._result(*settings, replayed, alpha=alpha)
        return self._run_tuned(settings, log)

    def _run_tuned(self, settings: tuple[Policy, float, int], log: bool) -> Simulation:
        """Alpha is 0 until the window is full; then the best alpha of the window's replays."""
        policy, capacity, multiplier = settings
        untuned = self._radix(policy, capacity, alpha=0.0, log=log)
        self._static[_key(policy, capacity, 0.0)] = untuned[0]
        result = self._result(*settings, untuned, alpha=0.0)
        window = result.window
        if multiplier == 1 or not 0 < window <= len(self.trace):
            return result  # the reference looks for request number `window` before it sets it
        first = result.first_eviction if self.corrections.tuned_from_snapshot else 0
        scores = {
            alpha: self._score(policy, capacity, alpha, window, first) for alpha in self.alphas
        }
        tuning = Tuning(window, scores)
        if tuning.alpha != 0.0:
            untuned = self._radix(
                policy, capacity, switch_at=window, alpha_after=tuning.alpha, log=log
            )
        return self._result(*settings, untuned, alpha=tuning.alpha, tuning=tuning)

    def _score(
        self, policy: Policy, capacity: float, alpha: float, window: int, first_eviction: int
    ) -> int:
        """Return what a static alpha saves in the scored part of the window.

        Args:
            first_eviction: requests seen when the cache was copied, to start from; 0 for none. Until
                the first eviction all alphas have the same cache.
        """
        known = _key(policy, capacity, alpha)
        if first_eviction:
            replayed = self._radix(
                policy, capacity, switch_at=first_eviction + 1, alpha_after=alpha, requests=window
            )
            skipped = replayed[0][first_eviction:]
        elif known in self._static:
            skipped = self._static[known][:window]
        else:
            skipped = self._radix(policy, capacity, alpha=alpha, requests=window)[0]
        scored = scored_part(skipped.tolist())
        if self.corrections.tuned_by_hits:
            return sum(scored)
        return flops_saved(self.model, list(scored)).total

    def _radix(
        self,
        policy: Policy,
        capacity: float,
        *,
        alpha: float = 0.0,
        switch_at: int = 0,
        alpha_after: float = 0.0,
        requests: int | None = None,
        log: bool = False,
    ) -> Any:
        tree = self._tree(policy)
        rule, value = _rule(policy)
        known = self._costs
        if policy.alignment > 1:  # siblings may start with the same tokens
            known = known._replace(corrections=known.corrections._replace(whole_edges=True))
        return radix.replay(
            tree.nodes, tree.tree.tokens, tree.in_node, tree.out_node,
            len(self.trace) if requests is None else requests,
            known, float(capacity), rule, value, alpha, switch_at, alpha_after, log,
        )  # fmt: skip

    def _tree(self, policy: Policy) -> "_Tree":
        """Return the union tree, aligned as the policy needs it."""
        if policy.alignment not in self._trees:
            tree, new_id = aligned(self.trace.tree, policy.alignment)
            self._trees[policy.alignment] = _Tree(
                tree, union_nodes(tree), new_id[self.trace.in_node], new_id[self.trace.out_node]
            )
        return self._trees[policy.alignment]

    def _result(
        self,
        policy: Policy,
        capacity: float,
        multiplier: int,
        replayed: Any,
        *,
        alpha: float | None = None,
        tuning: Tuning | None = None,
    ) -> Simulation:
        skipped, evicted, counters, evictions, cached = replayed
        clock, first_eviction, evict_calls, leaves, internals, peak = counters.tolist()
        return Simulation(
            trace=self.trace,
            policy=policy,
            capacity_bytes=capacity,
            model=self.model,
            bootstrap_multiplier=multiplier,
            skipped=skipped,
            evicted=evicted,
            clock=clock,
            first_eviction=first_eviction,
            evict_calls=evict_calls,
            leaf_evictions=leaves,
            internal_evictions=internals,
            peak_bytes=peak,
            alpha=alpha,
            tuning=tuning,
            evictions=evictions,
            cached=cached,
            tree=self._tree(policy).tree,
            block=self.block,
        )

    def _check(self, policy: Policy, capacity: float, alpha: float | None, multiplier: int) -> None:
        if alpha is not None and policy.alpha != "static":
            takers = ", ".join(p.name for p in POLICIES.values() if p.alpha == "static")
            raise PolicyError(
                f"policy '{policy.name}' takes no alpha; of all policies {takers} does"
            )
        if alpha is not None:
            _check_alpha(alpha)
        if multiplier < 1:
            raise PolicyError(f"bootstrap multiplier is {multiplier}; it must be >= 1")
        shortest = int(self.trace.tree.depth[self.trace.out_node].min())
        least = self._costs.state_bytes + self._costs.kv_bytes * shortest
        if not capacity < float("inf"):
            raise PolicyError(
                f"capacity is {capacity:g} bytes; give a number, such as 1e15 for ample"
            )
        if not least <= capacity:
            raise PolicyError(
                f"capacity is {capacity:g} bytes; the shortest request of the trace ({shortest} "
                f"tokens) alone needs {least}, so no request can be cached: give more"
            )


def _check_alpha(alpha: float) -> None:
    if not 0 <= alpha < float("inf"):
        raise PolicyError(f"alpha is {alpha}; it must be a number >= 0")


class _Tree(NamedTuple):
    """A union tree, as records for the kernels, and the nodes at which the requests end."""

    tree: PrefixTree
    nodes: Any
    in_node: NDArray[np.int32]
    out_node: NDArray[np.int32]


@lru_cache
def _rule(policy: Policy) -> tuple[int, Any]:
    """Return how the kernel evicts for a policy, and the compiled valuation."""
    if callable(policy.eviction):
        rule = VALUE_RANK if policy.alpha is None else VALUE_SCORE
        return rule, compiled_pointer(policy.eviction, VALUATION)
    rule = {"lru": OLDEST_LEAF, "flop_aware": FLOP_SCORE}[policy.eviction]
    return rule, compiled_pointer(_no_value, VALUATION)


def _no_value(entry: Entry) -> float:
    return 0.0


def _check_exactness(trace: Trace, costs: Costs) -> None:
    longest = int(trace.tree.depth.max())
    largest = max(costs.prefill.at(longest), costs.of_parent.at(longest))
    if largest >= EXACT:
        raise ModelError(
            f"a sequence of {longest} tokens costs this model up to {largest} FLOPs; from {EXACT} on "
            "the paper's arithmetic is not exact: use a smaller model or shorter sequences"
        )
