"""The paper's radix cache in one byte-sized pool, replayed on a compiled trace.

Serves every policy with judicious admission, with every quirk of the paper's simulator unless it is
corrected; so results of `sglang_plus`, `marconi` and `oracle` agree with it bit for bit.
"""

from typing import Any

import numpy as np

from marconi_core.jit import compiled, in_place
from marconi_core.policies.candidates import Candidates, empty_candidates, touch
from marconi_core.policies.flop_aware import Costs
from marconi_core.policies.siblings import ABSENT, append_child
from marconi_core.sim.leaf_order import LeafOrder, add_leaf, empty_order
from marconi_core.sim.radix_eviction import (
    FLOP_SCORE,
    OLDEST_LEAF,
    evict_by_score,
    evict_oldest_leaves,
    review,
)
from marconi_core.sim.radix_tree import empty_cache, lookup, set_edge, split
from marconi_core.sim.records import Ints, Records, empty_log, fill_path, first_entries, parting
from marconi_core.sim.ring import use
from marconi_core.traces.tree import ROOT


@compiled
def replay(
    tree: Records,
    tokens: Ints,
    in_node: Ints,
    out_node: Ints,
    requests: int,
    costs: Costs,
    capacity: float,
    rule: int,
    value: Any,
    alpha: float,
    switch_at: int,
    alpha_after: float,
    log: bool,
) -> Any:
    """Replay the first `requests` requests from an empty cache.

    Args:
        tree: UNION_NODE[nodes].
        tokens: tokens of the union tree's edges.
        in_node, out_node: union-tree nodes at which each prompt, and prompt plus output, end.
        capacity: bytes.
        rule: how to evict; see `radix_eviction`.
        value: a compiled `Valuation`; without effect under rules that have none.
        alpha, switch_at, alpha_after: `alpha_after` replaces `alpha` when request number
            `switch_at` (from 1) is inserted; 0 never switches.
        log: keep the eviction log.

    Returns:
        (skipped int64[requests], evicted int32[requests], counters int64[6], log, cache): tokens
        of the prompt served from the cache and nodes evicted, per request; counters are clock,
        requests seen at the first eviction (0: none), evict calls, leaf and internal evictions,
        peak bytes; the `Evictions`; and the final NODE[nodes].
    """
    cache = empty_cache(len(tree))
    # of these, a rule needs the first or the other two
    candidates = empty_candidates(1 if rule == OLDEST_LEAF else len(tree))
    order = empty_order(len(tree) if rule == OLDEST_LEAF else 1)
    tied = np.full(len(order.number), ABSENT, np.int32)
    evictions = empty_log(2 * requests if log else 0)  # an insertion adds at most two nodes
    levels = 1
    for i in range(requests):
        levels = max(levels, tree[out_node[i]].level + 1)
    path = np.empty(levels, np.int32)
    skipped = np.zeros(requests, np.int64)
    evicted = np.zeros(requests, np.int32)

    strict, whole_edges = costs.corrections.capacity, costs.corrections.whole_edges
    cached_nodes, cached_tokens, rank, clock = 0, 0, 0, 0
    first_eviction, evict_calls, leaves, internals, peak = 0, 0, 0, 0, 0

    for i in range(requests):
        fill_path(tree, out_node[i], path)
        end = tree[out_node[i]].level
        length = tree[out_node[i]].depth

        clock += 1
        prompt_end = tree[in_node[i]].level
        _, skipped[i], last, _ = lookup(tree, tokens, cache, path, prompt_end, whole_edges)
        if rule != OLDEST_LEAF:  # there, the insertion's own lookup stamps all that this one would
            if last != ABSENT:
                cache[last].uses += 1
            _stamp(tree, cache, candidates, last, clock, costs, rule, value)

        clock += 2  # the insertion, and its own lookup
        if i + 1 == switch_at:
            alpha = alpha_after
        matched, on_whole_edges, last, entered = lookup(tree, tokens, cache, path, end, whole_edges)
        if rule == OLDEST_LEAF:
            _use_path(cache, entered, clock)
        else:
            _stamp(tree, cache, candidates, last, clock, costs, rule, value)
        size = _size(cached_nodes, cached_tokens, costs)
        excess = size + _need(length, matched, on_whole_edges, costs) - capacity
        fits = not strict or _size(1, length, costs) <= capacity
        while fits and excess > 0:
            clock += 1
            evict_calls += 1
            if first_eviction == 0:
                first_eviction = i + 1
            if rule == OLDEST_LEAF:
                gone, gone_tokens = evict_oldest_leaves(
                    tree, cache, order, tied, excess, costs, i + 1, evictions, leaves, log
                )
                gone_leaves = gone
            else:
                gone, gone_tokens, gone_leaves = evict_by_score(
                    tree, cache, candidates, excess, costs, rule, value,
                    clock, alpha, i + 1, evictions, leaves + internals, log,
                )  # fmt: skip
            cached_nodes -= gone
            cached_tokens -= gone_tokens
            leaves += gone_leaves
            internals += gone - gone_leaves
            evicted[i] += gone
            if not strict:
                break
            matched, on_whole_edges, _, _ = lookup(tree, tokens, cache, path, end, whole_edges)
            size = _size(cached_nodes, cached_tokens, costs)
            excess = size + _need(length, matched, on_whole_edges, costs) - capacity
            fits = excess <= 0 or gone > 0
        if not fits:
            continue
        added, added_tokens = _insert(
            tree, cache, candidates, order, path, end, clock, rank, costs, rule, value
        )
        rank += 1
        cached_nodes += added
        cached_tokens += added_tokens
        peak = max(peak, _size(cached_nodes, cached_tokens, costs))

    counters = np.array([clock, first_eviction, evict_calls, leaves, internals, peak])
    evictions = first_entries(evictions, leaves + internals if log else 0)
    return skipped, evicted, counters, evictions, cache


@in_place
def _size(nodes: int, tokens: int, costs: Costs) -> int:
    return costs.state_bytes * nodes + costs.kv_bytes * tokens


@in_place
def _need(length: int, matched: int, on_whole_edges: int, costs: Costs) -> int:
    """Return the bytes that the insertion of `length` tokens takes.

    The reference expects a new leaf always, even where a sequence ends at a cached node or within
    an edge.
    """
    states = 2 if matched > on_whole_edges else 1
    if costs.corrections.capacity and matched == length:
        states -= 1
    return _size(states, length - matched, costs)


@in_place
def _stamp(
    tree: Records,
    cache: Records,
    candidates: Candidates,
    node: int,
    clock: int,
    costs: Costs,
    rule: int,
    value: Any,
) -> None:
    """Mark a node as used now (ABSENT: none)."""
    if node == ABSENT:
        return
    cache[node].timestamp = clock
    cache[node].floor = cache[ROOT].floor
    if cache[node].candidate != ABSENT:
        if rule == FLOP_SCORE:
            touch(candidates, cache[node].candidate, clock)
        else:
            review(tree, cache, candidates, node, costs, rule, value)


@in_place
def _use_path(cache: Records, node: int, clock: int) -> None:
    """LRU: mark a node and its ancestors as used now, the deepest first."""
    while node != ROOT:
        use(cache, node, clock)
        node = cache[node].parent


@in_place
def _insert(
    tree: Records,
    cache: Records,
    candidates: Candidates,
    order: LeafOrder,
    path: Ints,
    end: int,
    clock: int,
    rank: int,
    costs: Costs,
    rule: int,
    value: Any,
) -> tuple[int, int]:
    """Insert the sequence that ends at ``path[end]``: split an edge, append a leaf, both, neither.

    Returns:
        (nodes, tokens) added.
    """
    node, level, added, added_tokens = ROOT, 0, 0, 0
    while level < end:
        top = path[level + 1]
        child = cache[top].starting
        if child == ABSENT:
            parent, node, level = node, path[end], end
            append_child(cache, parent, node)
            set_edge(cache, node, top)
            cache[node].rank = rank
            _start_life(cache, node, clock)
            added += 1
            added_tokens = tree[node].depth - tree[parent].depth
            if rule == OLDEST_LEAF:
                add_leaf(order, cache, node)
            else:
                review(tree, cache, candidates, parent, costs, rule, value)
                review(tree, cache, candidates, node, costs, rule, value)
            break
        child_level = tree[child].level
        if child_level <= end and path[child_level] == child:
            if child_level == end:  # the reference does not stamp the node at which all ends
                break
            node, level = child, child_level
            continue
        level = parting(tree, path, level + 1, min(child_level, end), child)
        node = path[level]
        split(tree, cache, child, node)
        _start_life(cache, node, clock)
        added += 1
        if rule != OLDEST_LEAF:
            review(tree, cache, candidates, node, costs, rule, value)
            review(tree, cache, candidates, child, costs, rule, value)
    if rule == OLDEST_LEAF:
        _use_path(cache, node, clock)
    return added, added_tokens


@in_place
def _start_life(cache: Records, node: int, clock: int) -> None:
    """A node is cached from now on."""
    cache[node].timestamp = clock
    cache[node].uses = 1
    cache[node].floor = cache[ROOT].floor
