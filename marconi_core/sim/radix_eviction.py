"""Eviction from the radix cache: the oldest leaf, the lowest score, or the lowest value."""

from typing import Any

import numpy as np

from marconi_core.jit import compiled, in_place
from marconi_core.policies.base import Entry
from marconi_core.policies.candidates import (
    Candidates,
    add,
    change,
    remove,
    search,
    search_values,
)
from marconi_core.policies.flop_aware import Costs, efficiency, prefill_flops
from marconi_core.policies.siblings import ABSENT, forget_children, remove_child, replace_child
from marconi_core.sim.heap import clear, heapify, pop, push
from marconi_core.sim.leaf_order import LEAVES, LeafOrder, number_anew, place_of, remove_leaf
from marconi_core.sim.radix_tree import last_edge, precedes, set_edge
from marconi_core.sim.records import INTERNAL, LEAF, Ints, Records
from marconi_core.sim.ring import unlink
from marconi_core.traces.tree import ROOT

OLDEST_LEAF, FLOP_SCORE, VALUE_SCORE, VALUE_RANK = range(4)
"""Rules: the least recently used leaf; the lowest recency + alpha * FLOPs saved per byte; the lowest
recency + alpha * a policy's own value; the lowest such value, of equals the least recently used."""


@in_place
def review(
    tree: Records,
    cache: Records,
    candidates: Candidates,
    node: int,
    costs: Costs,
    rule: int,
    value: Any,
) -> None:
    """Bring `node`'s candidacy and worth up to date after its edge, children or use changed."""
    if node == ROOT:
        return
    if cache[node].children > 1:
        _withdraw(cache, candidates, node)
        return
    worth = _worth(tree, cache, node, costs, rule, value)
    if cache[node].candidate == ABSENT:
        cache[node].candidate = add(candidates, node, worth, cache[node].timestamp)
    else:
        change(candidates, cache[node].candidate, worth, cache[node].timestamp)


@in_place
def _worth(tree: Records, cache: Records, node: int, costs: Costs, rule: int, value: Any) -> float:
    start, end = tree[cache[node].parent].depth, tree[node].depth
    if rule == FLOP_SCORE:
        return efficiency(start, end, costs)
    entry = Entry(
        start,
        end,
        cache[node].uses,
        cache[node].timestamp,
        np.float64(prefill_flops(start, end, costs)),
        np.float64(costs.state_bytes + costs.kv_bytes * (end - start)),
        cache[node].floor,
    )
    return value(entry)


@in_place
def _withdraw(cache: Records, candidates: Candidates, node: int) -> None:
    """Remove `node` from the candidates, if it is one."""
    place = cache[node].candidate
    if place != ABSENT:
        moved = remove(candidates, place)
        cache[moved].candidate = place
        cache[node].candidate = ABSENT


@in_place
def evict_by_score(
    tree: Records,
    cache: Records,
    candidates: Candidates,
    excess: float,
    costs: Costs,
    rule: int,
    value: Any,
    clock: int,
    alpha: float,
    request: int,
    evictions: Any,
    logged: int,
    log: bool,
) -> tuple[int, int, int]:
    """Evict lowest scores or values until `excess` bytes are counted as freed.

    A leaf is deleted; a node with one child gives up its state and the child absorbs its edge.
    Unless corrected, a leaf counts with the bytes of the *last* candidate in preorder, not its own.

    Returns:
        (nodes, tokens, leaves) evicted.
    """
    freed, gone, gone_tokens, leaves = 0, 0, 0, 0
    while freed < excess and candidates.used[0] > 0:
        if rule == VALUE_RANK:
            ties = search_values(candidates)
        else:
            ties = search(candidates, clock, alpha)
        victim = _first(tree, cache, candidates, ties)
        worth = candidates.entries[cache[victim].candidate].efficiency
        cache[ROOT].floor = max(cache[ROOT].floor, worth)
        parent = cache[victim].parent
        edge = tree[victim].depth - tree[parent].depth
        leaf = cache[victim].children == 0
        if log:
            evictions.request[logged + gone] = request
            evictions.kind[logged + gone] = LEAF if leaf else INTERNAL
            evictions.tokens[logged + gone] = edge
            evictions.timestamp[logged + gone] = cache[victim].timestamp
        gone += 1
        freed += costs.state_bytes
        _withdraw(cache, candidates, victim)
        cache[cache[victim].top].starting = ABSENT
        if leaf:
            freed += costs.kv_bytes * (
                edge if costs.corrections.own_bytes else last_edge(tree, cache)
            )
            gone_tokens += edge
            leaves += 1
            remove_child(cache, victim)
            review(tree, cache, candidates, parent, costs, rule, value)
        else:
            child = cache[victim].first_child
            cache[cache[child].top].starting = ABSENT
            replace_child(cache, victim, child)
            cache[child].rank = cache[victim].rank
            cache[child].timestamp = max(cache[child].timestamp, cache[victim].timestamp)
            set_edge(cache, child, cache[victim].top)
            forget_children(cache, victim)
            review(tree, cache, candidates, child, costs, rule, value)
    return gone, gone_tokens, leaves


@in_place
def _first(tree: Records, cache: Records, candidates: Candidates, ties: int) -> int:
    """Return the first in DFS preorder of the candidates that a search found."""
    victim = candidates.tied[0]
    for node in candidates.tied[1:ties]:
        if precedes(tree, cache, node, victim):
            victim = node
    return victim


@in_place
def evict_oldest_leaves(
    tree: Records,
    cache: Records,
    order: LeafOrder,
    tied: Ints,
    excess: float,
    costs: Costs,
    request: int,
    evictions: Any,
    logged: int,
    log: bool,
) -> tuple[int, int]:
    """Evict least recently used leaves until `excess` bytes are freed.

    The oldest node is always a leaf. Where timestamps tie, the reference leaves the order to
    Python's heapq over the leaves in DFS preorder; then, and only then, `tied` is that heap.

    Returns:
        (nodes, tokens) evicted.
    """
    size = order.totals[LEAVES]
    reached, ties = _reach(tree, cache, excess, costs)
    if ties:
        _build_heap(cache, order, tied, reached)
    freed, gone, gone_tokens = 0, 0, 0
    while freed < excess:
        victim = cache[ROOT].newer
        if victim == ROOT:
            break
        if ties:
            victim = pop(tied, size, cache)
            size -= 1
        parent = cache[victim].parent
        edge = tree[victim].depth - tree[parent].depth
        if log:
            evictions.request[logged + gone] = request
            evictions.tokens[logged + gone] = edge
            evictions.timestamp[logged + gone] = cache[victim].timestamp
        freed += costs.state_bytes + costs.kv_bytes * edge
        gone += 1
        gone_tokens += edge
        remove_child(cache, victim)
        remove_leaf(order, cache, victim)
        unlink(cache, victim)
        cache[cache[victim].top].starting = ABSENT
        if ties and parent != ROOT and cache[parent].children == 0:
            push(tied, size, parent, cache)
            size += 1
    if ties:
        clear(tied, size, cache)
    return gone, gone_tokens


@in_place
def _reach(tree: Records, cache: Records, excess: float, costs: Costs) -> tuple[int, bool]:
    """Count the oldest nodes, whole ages at a time, down to where `excess` bytes are freed.

    Returns:
        (nodes, whether two leaves of the same age may compete): they do not if the nodes of each
        age are one chain from a node up to its ancestors.
    """
    freed, reached, ties = 0, 0, False
    node = cache[ROOT].newer
    while node != ROOT:
        newer, parent = cache[node].newer, cache[node].parent
        freed += costs.state_bytes + costs.kv_bytes * (tree[node].depth - tree[parent].depth)
        reached += 1
        same_age = newer != ROOT and cache[newer].timestamp == cache[node].timestamp
        ties = ties or (same_age and newer != parent)
        if freed >= excess and not same_age:
            break
        node = newer
    return reached, ties


@compiled
def _build_heap(cache: Records, order: LeafOrder, heap: Ints, reached: int) -> None:
    """Let `heap` be the heap of all leaves, as far as the oldest `reached` nodes are concerned."""
    leaves = np.empty(reached, np.int32)
    count, numbered = 0, True
    node = cache[ROOT].newer
    for _ in range(reached):
        if cache[node].children == 0:
            leaves[count] = node
            count += 1
            numbered = numbered and order.number[node] >= 0
        node = cache[node].newer
    if not numbered:
        number_anew(order, cache)
    places = np.empty(count, np.int32)
    for i in range(count):
        places[i] = place_of(order, leaves[i])
        heap[places[i]] = leaves[i]
    heapify(heap, order.totals[LEAVES], places, cache)
