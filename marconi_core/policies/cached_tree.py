"""A server's radix tree as an eviction policy needs it: sizes, states, locks, times, candidates.

The tree with tokens, KVs and states belongs to the server (or its simulator), which reports every
change here. What the policy has to know of a node changes with its neighbours, so each event brings
exactly the affected nodes up to date; a decision then searches two ready sets of candidates and
never walks the tree.

Two pools are kept apart: KV tokens and state slots. A node may be evicted for the sake of

* states, if it has one that is not locked and at most one child. A leaf goes as a whole. A node
  with a child gives up its state only, which is the paper's absorption: later hits are the same as
  if the child had taken over the edge.
* KVs, if it is a leaf that nothing locks. What a node with a child frees, the child absorbs.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from marconi_core.jit import compiled
from marconi_core.policies.candidates import (
    Candidates,
    add,
    change,
    empty_candidates,
    remove,
    touch,
)
from marconi_core.policies.siblings import (
    ABSENT,
    SIBLING_FIELDS,
    append_child,
    following,
    forget_children,
    remove_child,
    replace_child,
)

ROOT = 0

NODE = np.dtype(
    [
        ("flops", np.float64),  # of a prefill from the root to the node's end
        ("depth", np.int64),  # tokens from the root to the node's end
        ("timestamp", np.int64),  # logical time of the last use of the node's state; 0 for never
        ("serial", np.int64),  # order of creation
        *SIBLING_FIELDS,
        ("kv_locks", np.int32),  # requests that use the KVs up to here
        ("state_locks", np.int32),  # requests that use the state
        ("for_states", np.int32),  # place among the candidates, or ABSENT
        ("for_kvs", np.int32),
        ("state", np.bool_),  # an SSM state is cached for the node's end
    ],
    align=True,
)


class Prices(NamedTuple):
    """What a byte costs, and how large things are.

    Attributes:
        state_bytes: bytes of one state.
        token_bytes: bytes of one token's KVs.
        other_pool: price of a byte in the pool that is not under pressure (lambda of the policy);
            a byte in the pool under pressure costs 1.
        per_byte: divide the FLOPs saved by the price of what is freed; if not, FLOPs alone count.
    """

    state_bytes: float
    token_bytes: float
    other_pool: float
    per_byte: bool


class CachedTree(NamedTuple):
    """The tree and its candidates; grows by replacement (`grown`).

    Attributes:
        nodes: NODE[capacity]; node 0 is the root.
        free: int32[capacity]; stack of unused node ids.
        counts: int64[3]; unused ids, nodes ever made, cached states.
        for_states, for_kvs: candidates when states, or KVs, are to be freed.
    """

    nodes: Any
    free: NDArray[np.int32]
    counts: NDArray[np.int64]
    for_states: Candidates
    for_kvs: Candidates


FREE, MADE, STATES = 0, 1, 2


@compiled
def empty_tree(capacity: int) -> CachedTree:
    """Return a tree with room for `capacity` nodes, the root included."""
    tree = CachedTree(
        np.zeros(capacity, NODE),
        np.arange(capacity - 1, -1, -1).astype(np.int32),
        np.zeros(3, np.int64),
        empty_candidates(capacity),
        empty_candidates(capacity),
    )
    tree.counts[FREE] = capacity
    _fresh(tree, 0, 0.0)
    return tree


@compiled
def grown(tree: CachedTree) -> CachedTree:
    """Return the same tree with twice the room."""
    size = len(tree.nodes)
    larger = CachedTree(
        np.zeros(2 * size, NODE),
        np.empty(2 * size, np.int32),
        tree.counts.copy(),
        _grown_candidates(tree.for_states, 2 * size),
        _grown_candidates(tree.for_kvs, 2 * size),
    )
    larger.nodes[:size] = tree.nodes
    unused = tree.counts[FREE]
    for i in range(size):
        larger.free[i] = 2 * size - 1 - i
    larger.free[size : size + unused] = tree.free[:unused]
    larger.counts[FREE] = size + unused
    return larger


@compiled
def _grown_candidates(candidates: Candidates, capacity: int) -> Candidates:
    larger = empty_candidates(capacity)
    larger.entries[: len(candidates.entries)] = candidates.entries
    larger.groups[: len(candidates.groups)] = candidates.groups
    larger.used[0] = candidates.used[0]
    return larger


@compiled
def add_leaf(tree: CachedTree, prices: Prices, parent: int, depth: int, flops: float) -> int:
    """Add a node without a state that ends at `depth`; return its id."""
    node = _fresh(tree, depth, flops)
    append_child(tree.nodes, parent, node)
    _review(tree, prices, parent)
    _review(tree, prices, node)
    sibling = tree.nodes[node].previous_sibling
    if sibling != ABSENT:  # the parent's KVs no longer die with this leaf
        _review_leaf_below(tree, prices, sibling)
    return node


@compiled
def split(tree: CachedTree, prices: Prices, child: int, depth: int, flops: float) -> int:
    """Cut `child`'s edge at `depth`; return the new node, which ends there and has no state."""
    nodes = tree.nodes
    upper = _fresh(tree, depth, flops)
    nodes[upper].kv_locks = nodes[child].kv_locks
    replace_child(nodes, child, upper)
    append_child(nodes, upper, child)
    _review_leaf_below(tree, prices, upper)
    return upper


@compiled
def remove_leaf(tree: CachedTree, prices: Prices, node: int) -> None:
    """Forget a node without children."""
    nodes = tree.nodes
    parent = nodes[node].parent
    tree.counts[STATES] -= nodes[node].state
    _withdraw(tree, node)
    remove_child(nodes, node)
    tree.free[tree.counts[FREE]] = node
    tree.counts[FREE] += 1
    _review(tree, prices, parent)
    _review_leaf_below(tree, prices, parent)


@compiled
def set_state(tree: CachedTree, prices: Prices, node: int, state: bool) -> None:
    """Report that the node's state is cached now, or no longer."""
    if tree.nodes[node].state == state:
        return
    tree.nodes[node].state = state
    tree.counts[STATES] += 1 if state else -1
    _review(tree, prices, node)
    # descendants down to the next states fall back to another ancestor now
    at = tree.nodes[node].first_child
    while at != ABSENT:
        _review(tree, prices, at)
        at = following(tree.nodes, at, node, not tree.nodes[at].state)


@compiled
def stamp(tree: CachedTree, node: int, clock: int) -> None:
    """Report a use of the node's state: its creation, or a hit."""
    tree.nodes[node].timestamp = clock
    if tree.nodes[node].for_states != ABSENT:
        touch(tree.for_states, tree.nodes[node].for_states, clock)
    if tree.nodes[node].for_kvs != ABSENT:
        touch(tree.for_kvs, tree.nodes[node].for_kvs, clock)


@compiled
def lock_kvs(tree: CachedTree, prices: Prices, node: int, change_by: int) -> None:
    """Report that a request starts (+1) or ends (-1) to use all KVs up to the node's end."""
    at = node
    while at != ROOT:
        tree.nodes[at].kv_locks += change_by
        at = tree.nodes[at].parent
    _review(tree, prices, node)
    _review_leaf_below(tree, prices, node)


@compiled
def lock_state(tree: CachedTree, prices: Prices, node: int, locks: int) -> None:
    """Report how many requests use the node's state."""
    tree.nodes[node].state_locks = locks
    _review(tree, prices, node)
    _review_leaf_below(tree, prices, node)


@compiled
def reprice(tree: CachedTree, prices: Prices) -> None:
    """Bring all candidates up to date after a change of prices."""
    at = tree.nodes[ROOT].first_child
    while at != ABSENT:
        _review(tree, prices, at)
        at = following(tree.nodes, at, ROOT)


@compiled
def oldest_state(tree: CachedTree) -> int:
    """Return the unlocked state unused for longest, whatever its children; ABSENT for none."""
    nodes, best = tree.nodes, ABSENT
    at = nodes[ROOT].first_child
    while at != ABSENT:
        if nodes[at].state and nodes[at].state_locks == 0 and (
            best == ABSENT or older(tree, at, best)
        ):  # fmt: skip
            best = at
        at = following(nodes, at, ROOT)
    return best


@compiled
def older(tree: CachedTree, one: int, other: int) -> bool:
    """Tell whether `one` was used, or failing that made, before `other`."""
    a, b = tree.nodes[one], tree.nodes[other]
    return a.timestamp < b.timestamp or (a.timestamp == b.timestamp and a.serial < b.serial)


@compiled
def is_free_leaf(tree: CachedTree, node: int) -> bool:
    """Tell whether a node is a leaf that nothing locks."""
    at = tree.nodes[node]
    return node != ROOT and at.children == 0 and at.kv_locks == 0 and at.state_locks == 0


@compiled
def freed_tokens(tree: CachedTree, node: int) -> int:
    """Return the KV tokens that go with a free leaf; 0 for any other node.

    Its own edge, and the edges above it that no state and no other leaf keep: KVs that end at no
    state and lead to none can never be part of a hit.
    """
    if not is_free_leaf(tree, node):
        return 0
    nodes = tree.nodes
    above = nodes[node].parent
    while (
        above != ROOT
        and nodes[above].children == 1
        and not nodes[above].state
        and nodes[above].kv_locks == 0
        and nodes[above].state_locks == 0
    ):
        above = nodes[above].parent
    return nodes[node].depth - nodes[above].depth


@compiled
def saved_flops(tree: CachedTree, node: int) -> float:
    """Return the FLOPs that a hit on the node's state saves over one on the next state above it.

    All layers count: without the state the request falls back to that ancestor and computes KVs
    and everything else from there. 0 if the node has no state.
    """
    nodes = tree.nodes
    if not nodes[node].state:
        return 0.0
    above = nodes[node].parent
    while above != ROOT and not nodes[above].state:
        above = nodes[above].parent
    return nodes[node].flops - nodes[above].flops


@compiled
def _review(tree: CachedTree, prices: Prices, node: int) -> None:
    """Bring a node's candidacies up to date."""
    if node == ROOT:
        return
    at = tree.nodes[node]
    may_give_state = at.state and at.state_locks == 0 and at.children <= 1
    may_give_kvs = is_free_leaf(tree, node)
    if not may_give_state and at.for_states != ABSENT:
        _withdraw_for_states(tree, node)
    if not may_give_kvs and at.for_kvs != ABSENT:
        _withdraw_for_kvs(tree, node)
    if not may_give_state and not may_give_kvs:
        return
    saved = saved_flops(tree, node)
    tokens = prices.token_bytes * freed_tokens(tree, node)
    state = prices.state_bytes if at.state else 0.0
    if may_give_state:
        price = state + prices.other_pool * tokens if prices.per_byte else 1.0
        if at.for_states == ABSENT:
            place = add(tree.for_states, node, saved / price, at.timestamp)
            tree.nodes[node].for_states = place
        else:
            change(tree.for_states, at.for_states, saved / price, at.timestamp)
    if may_give_kvs:
        price = tokens + prices.other_pool * state if prices.per_byte else 1.0
        if at.for_kvs == ABSENT:
            place = add(tree.for_kvs, node, saved / price, at.timestamp)
            tree.nodes[node].for_kvs = place
        else:
            change(tree.for_kvs, at.for_kvs, saved / price, at.timestamp)


@compiled
def _review_leaf_below(tree: CachedTree, prices: Prices, node: int) -> None:
    """Bring the only leaf below a node up to date, if there is just one: KVs above may go with it."""
    at = node
    while tree.nodes[at].children == 1:
        at = tree.nodes[at].first_child
    if tree.nodes[at].children == 0:
        _review(tree, prices, at)


@compiled
def _withdraw(tree: CachedTree, node: int) -> None:
    if tree.nodes[node].for_states != ABSENT:
        _withdraw_for_states(tree, node)
    if tree.nodes[node].for_kvs != ABSENT:
        _withdraw_for_kvs(tree, node)


@compiled
def _withdraw_for_states(tree: CachedTree, node: int) -> None:
    place = tree.nodes[node].for_states
    moved = remove(tree.for_states, place)
    tree.nodes[moved].for_states = place
    tree.nodes[node].for_states = ABSENT


@compiled
def _withdraw_for_kvs(tree: CachedTree, node: int) -> None:
    place = tree.nodes[node].for_kvs
    moved = remove(tree.for_kvs, place)
    tree.nodes[moved].for_kvs = place
    tree.nodes[node].for_kvs = ABSENT


@compiled
def _fresh(tree: CachedTree, depth: int, flops: float) -> int:
    """Take an unused id for a node; it is not linked yet."""
    tree.counts[FREE] -= 1
    node = tree.free[tree.counts[FREE]]
    forget_children(tree.nodes, node)
    at = tree.nodes[node]
    at.flops = flops
    at.depth = depth
    at.timestamp = 0
    at.serial = tree.counts[MADE]
    at.kv_locks = 0
    at.state_locks = 0
    at.for_states = ABSENT
    at.for_kvs = ABSENT
    at.state = False
    tree.counts[MADE] += 1
    return node
