"""Marconi for a server: admission at branch points, FLOP-aware eviction from two pools.

A server such as SGLang keeps KVs (a token each) and SSM states (a slot each) in two pools of fixed
size, and frees either when it runs out. The paper's single pool of bytes becomes a price: a byte in
the pool that is short costs 1, a byte in the other one lambda.

    value       G(v) = F(L_v) - F(L_a(v))
    efficiency  G(v) / (bytes freed in the short pool + lambda * bytes freed in the other)
    score       recency + alpha * efficiency, both min-max normalised over the candidates

where F(L) are the FLOPs of a prefill of L tokens through all layers, L_v is the length of the
prefix that ends at v, and a(v) the nearest ancestor with a state, on which a hit falls back without
v's. Lambda = 1 charges all bytes alike, as the paper does; lambda = 0 looks at one pool only.
Recency is 1 / (logical time since the node's state was made or last hit). The lowest score goes;
of equals the least recently used, then the oldest.

Both the simulator of the server (`marconi_core.sim.server`) and the plug-in for the server itself
call this module; nothing else decides.
"""

import copy
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from marconi_core.errors import PolicyError
from marconi_core.jit import compiled
from marconi_core.models.cost import CostModel, Polynomial
from marconi_core.policies import cached_tree
from marconi_core.policies.cached_tree import ROOT, STATES, CachedTree, Prices
from marconi_core.policies.candidates import Candidates, search
from marconi_core.policies.siblings import ABSENT

Objective = Literal["marconi", "seglen", "lru"]
"""What counts beside recency: FLOPs per byte, tokens to the next state above, or nothing."""

Pool = Literal["states", "kvs"]

HEADROOM = 3
"""State slots that SGLang wants to see free before each prefill; it evicts states if they are not."""

INITIAL_CAPACITY = 1024
"""Nodes that a tree has room for at first; it doubles when full."""


BRANCH_GAIN = 128
"""Tokens that a state at a branch point has to save, unless told otherwise.

Messages of one role begin with the same few tokens, so prompts often part just behind a state. Another
state there would save next to nothing, but takes a slot, and a prefill step of its own.
"""


def branch_point(kv_match: int, state_match: int, least_gain: int = 1) -> int | None:
    """Return where a prompt's state is worth keeping: the end of its deepest KV match.

    The paper admits a state where a sequence parts from a cached one. A server knows the prompt
    only, without its last token, which it always computes; so the branch point is found when the
    prompt is looked up. (The paper's simulator looks at prompt and output, at insertion.)

    Args:
        kv_match: tokens of the prompt, without the last, whose KVs are cached.
        state_match: tokens up to the deepest state among them.
        least_gain: tokens that a state there must save beyond that one; 1 for every branch point, as
            in the paper.

    Returns:
        A prefix length; None if the state is there already, or nothing matches.
    """
    return kv_match if kv_match - state_match >= least_gain else None


def admits(position: int, branch: int | None) -> bool:
    """Tell whether the state of an unfinished prompt at `position` is cached: at its branch point.

    A finished request's last state always is.
    """
    return branch is not None and position == branch


def states_to_spare(free_states: int, states: int, free_tokens: int, tokens: int) -> bool:
    """Tell whether state slots are the more plentiful pool: a larger share of them is free.

    To be choosy about states then saves what is not short, and costs hits: with a state at the end
    of a conversation's last prompt, its last output can be evicted for its KVs alone, and the prompt
    stays of use. So other states than those `admits` names are cached too, as long as no state has
    to go for them.
    """
    return free_states > HEADROOM and free_states * tokens > free_tokens * states


@dataclass(frozen=True)
class EvictionSettings:
    """How eviction weighs its candidates.

    Attributes:
        objective: `marconi`; `seglen` counts tokens instead of FLOPs, whatever the bytes; `lru`
            is recency alone.
        alpha: weight of efficiency against recency, >= 0; without effect for `lru`.
        other_pool: lambda, 0 to 1.
    """

    objective: Objective = "marconi"
    alpha: float = 0.0
    other_pool: float = 1.0

    def __post_init__(self) -> None:
        if self.objective not in get_args(Objective):
            raise PolicyError(
                f"unknown eviction objective '{self.objective}'; choose one of: "
                f"{', '.join(get_args(Objective))}"
            )
        if not 0 <= self.alpha < float("inf"):
            raise PolicyError(f"alpha is {self.alpha}; it must be a number >= 0")
        if not 0 <= self.other_pool <= 1:
            raise PolicyError(f"lambda is {self.other_pool}; it must be between 0 and 1")


class TwoPoolEviction:
    """Follows a server's cached tree and says what to evict.

    Nodes are named by the numbers that `add_leaf` and `split` return; `ROOT` is the root. The server
    reports each change when it has made it.

    Attributes:
        costs: the model's.
        settings: how candidates are weighed; see `configure`.
        evictions: how often what was given up: by the pool that was short and `leaf` (KVs and
            state), `state` (of a node with a child), `stranded` (KVs that a leaf left behind) or
            `branching` (the last resort: the state of a node with several children).
    """

    def __init__(self, costs: CostModel, settings: EvictionSettings | None = None) -> None:
        self.settings = settings or EvictionSettings()
        self.costs = costs
        self.reset()

    def reset(self) -> None:
        """Forget everything that is cached, and the statistics."""
        self._tree: CachedTree = cached_tree.empty_tree(INITIAL_CAPACITY)
        self._prices = self._priced()
        self._clock = 0
        self.evictions: Counter[tuple[Pool, str]] = Counter()

    def configure(self, settings: EvictionSettings) -> None:
        """Change alpha or lambda from now on.

        Raises:
            PolicyError: the objective differs; values of cached prefixes would not be comparable.
        """
        if settings.objective != self.settings.objective:
            raise PolicyError(
                f"a running cache cannot change its eviction objective from "
                f"'{self.settings.objective}' to '{settings.objective}'; restart it"
            )
        self.settings = settings
        if self._prices != (prices := self._priced()):
            self._prices = prices
            cached_tree.reprice(self._tree, prices)

    def copy(self) -> "TwoPoolEviction":
        """Return an independent policy that knows the same tree."""
        twin = copy.copy(self)
        twin._tree = copy.deepcopy(self._tree)
        twin.evictions = self.evictions.copy()
        return twin

    @property
    def cached_states(self) -> int:
        return int(self._tree.counts[STATES])

    @property
    def cached_nodes(self) -> int:
        return len(self._tree.nodes) - int(self._tree.counts[cached_tree.FREE]) - 1

    # What the server reports

    def add_leaf(self, parent: int, tokens: int) -> int:
        """A new leaf whose edge covers `tokens` tokens; its state is reported separately."""
        depth = int(self._tree.nodes[parent]["depth"]) + tokens
        self._make_room()
        return cached_tree.add_leaf(self._tree, self._prices, parent, depth, self._flops(depth))

    def split(self, child: int, tokens: int) -> int:
        """`child`'s edge is cut: its first `tokens` tokens belong to a new node, returned."""
        nodes = self._tree.nodes
        depth = int(nodes[nodes[child]["parent"]]["depth"]) + tokens
        self._make_room()
        return cached_tree.split(self._tree, self._prices, child, depth, self._flops(depth))

    def remove_leaf(self, node: int) -> None:
        """A leaf is gone, and its state with it."""
        cached_tree.remove_leaf(self._tree, self._prices, node)

    def add_state(self, node: int) -> None:
        """The state at the node's end is cached now."""
        cached_tree.set_state(self._tree, self._prices, node, True)
        self.use(node)

    def remove_state(self, node: int) -> None:
        """The state at the node's end is cached no longer; its KVs stay."""
        cached_tree.set_state(self._tree, self._prices, node, False)

    def use(self, node: int) -> None:
        """A request is served from the node's state."""
        if node != ROOT:
            self._clock += 1
            cached_tree.stamp(self._tree, node, self._clock)

    def lock_kvs(self, node: int, change_by: int) -> None:
        """A request starts (+1) or ends (-1) to use the KVs from the root to the node's end."""
        cached_tree.lock_kvs(self._tree, self._prices, node, change_by)

    def lock_state(self, node: int, locks: int) -> None:
        """`locks` requests use the node's state now."""
        cached_tree.lock_state(self._tree, self._prices, node, locks)

    # What the server asks

    def evict(
        self,
        pool: Pool,
        enough: Callable[[], bool],
        drop_leaf: Callable[[int], None],
        drop_state: Callable[[int], None],
    ) -> None:
        """Evict for the sake of one pool until there is enough, or no candidate is left.

        Args:
            enough: whether the server has what it needs.
            drop_leaf, drop_state: evict a leaf, or a state only; they report it as above.
        """
        while not enough():
            node = self._lowest(pool)
            kind = "state"
            if node == ABSENT and pool == "states":
                node, kind = int(cached_tree.oldest_state(self._tree)), "branching"
            if node == ABSENT:
                return
            if cached_tree.is_free_leaf(self._tree, node):
                self._evict_leaf(pool, node, drop_leaf)
            else:
                self.evictions[pool, kind] += 1
                drop_state(node)

    def _evict_leaf(self, pool: Pool, node: int, drop_leaf: Callable[[int], None]) -> None:
        """Evict a leaf, then the KVs above it that no state and no other leaf keep."""
        kind = "leaf"
        while node != ROOT:
            parent = int(self._tree.nodes[node]["parent"])
            self.evictions[pool, kind] += 1
            drop_leaf(node)
            if self._tree.nodes[parent]["state"] or not cached_tree.is_free_leaf(
                self._tree, parent
            ):
                return
            node, kind = parent, "stranded"

    def _lowest(self, pool: Pool) -> int:
        candidates = self._tree.for_states if pool == "states" else self._tree.for_kvs
        alpha = 0.0 if self.settings.objective == "lru" else self.settings.alpha
        return int(_lowest(self._tree, candidates, self._clock + 1, alpha))

    def _make_room(self) -> None:
        if self._tree.counts[cached_tree.FREE] == 0:
            self._tree = cached_tree.grown(self._tree)

    def _flops(self, tokens: int) -> float:
        return float(tokens if self.settings.objective == "seglen" else self.costs.flops(tokens))

    def _priced(self) -> Prices:
        return Prices(
            state_bytes=float(self.costs.state_bytes),
            token_bytes=float(self.costs.kv_bytes_per_token),
            other_pool=float(self.settings.other_pool),
            per_byte=self.settings.objective == "marconi",
        )


def warm_up() -> None:
    """Load or compile all that a running policy needs, so that no request has to wait for it."""
    policy = TwoPoolEviction(_NoCosts(), EvictionSettings(alpha=1.0))
    leaf = policy.add_leaf(ROOT, 2)
    policy.split(leaf, 1)
    policy.add_state(leaf)
    for locks in (1, 0):
        policy.lock_kvs(leaf, 2 * locks - 1)
        policy.lock_state(leaf, locks)
    policy.configure(EvictionSettings(alpha=1.0, other_pool=0.5))
    pools: tuple[Pool, ...] = ("states", "kvs", "states")
    for pool in pools:
        once = iter((False, True))
        policy.evict(pool, once.__next__, policy.remove_leaf, policy.remove_state)
    cached_tree.grown(policy._tree)


class _NoCosts(CostModel):
    """For `warm_up`."""

    kv_bytes_per_token = 1
    state_bytes = 1
    prefill_by_kind: Mapping[str, Polynomial] = {"all": Polynomial(1, 0)}


@compiled
def _lowest(tree: CachedTree, candidates: Candidates, clock: int, alpha: float) -> int:
    """Return the candidate with the lowest score; of equals the oldest; ABSENT without any."""
    if candidates.used[0] == 0:
        return ABSENT
    ties = search(candidates, clock, alpha)
    victim = candidates.tied[0]
    for node in candidates.tied[1:ties]:
        if cached_tree.older(tree, node, victim):
            victim = node
    return victim
