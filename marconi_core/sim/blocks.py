"""The paper's vLLM+ baseline: a cache of token blocks, each with its own SSM state, under LRU.

Replayed on a compiled trace with every quirk of the paper's simulator, but not block by block. The
full blocks that end on one union-tree edge form a run: every sequence that uses one of them uses
all, so they share a timestamp, and since eviction takes the deepest first, what is cached of a run
is always its upper part. A run is named by its union-tree node v; ``nodes + v`` names the tail, the
block of fewer tokens with which a sequence that ends at v closes. Node 0 is the root.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marconi_core.jit import compiled, in_place
from marconi_core.policies.flop_aware import Costs
from marconi_core.policies.siblings import (
    ABSENT,
    SIBLING_FIELDS,
    append_child,
    forget_children,
    remove_child,
)
from marconi_core.sim.records import (
    CachedNode,
    Ints,
    Records,
    empty_log,
    fill_path,
    first_entries,
    parting,
)
from marconi_core.sim.ring import unlink, use
from marconi_core.traces.tree import ROOT, PrefixTree

BLOCK = 32
"""Tokens of a block in the paper's experiments, but for Figure 3."""

NODE = np.dtype(
    [
        *SIBLING_FIELDS,
        ("tails", np.int32),  # children that are tails
        ("cached", np.int32),  # blocks of the run that are cached; for a tail its tokens
        ("older", np.int32),
        ("newer", np.int32),
        ("timestamp", np.int64),  # logical time of the last use
        ("rank", np.int64),  # orders tails among siblings
    ],
    align=True,
)
"""A run or a tail; children hang below a run's last block.

`older` and `newer` link what is cached by last use, in a ring through the root. Of things used at
the same time the deeper counts as older, so the oldest never has children.
"""


@compiled
def replay(
    tree: Records,
    in_node: Ints,
    out_node: Ints,
    requests: int,
    costs: Costs,
    capacity: float,
    block: int,
    log: bool,
) -> Any:
    """Replay the first `requests` requests from an empty cache; see `radix.replay` for the result.

    Args:
        block: tokens of a block.
    """
    run_length = np.empty(len(tree), np.int64)
    for node in range(len(tree)):
        run_length[node] = tree[node].depth // block - tree[tree[node].parent].depth // block
    cache = _empty_cache(2 * len(tree))
    entries, levels = 0, 1
    for node in out_node[:requests]:
        entries += tree[node].depth // block + 1
        levels = max(levels, tree[node].level + 1)
    evictions = empty_log(entries if log else 0)
    path = np.empty(levels, np.int32)
    skipped = np.zeros(requests, np.int64)
    evicted = np.zeros(requests, np.int32)

    strict = costs.corrections.capacity
    blocks, tokens, clock = 0, 0, 0
    first_eviction, evict_calls, leaves, peak = 0, 0, 0, 0

    for i in range(requests):
        fill_path(tree, out_node[i], path)
        end = tree[out_node[i]].level

        # The lookup of the prompt stamps a part of what the insertion's own lookup stamps next.
        prompt_end = tree[in_node[i]].level
        skipped[i], _, _ = _lookup(tree, cache, run_length, path, prompt_end, block)
        clock += 3
        matched, hits, deepest = _lookup(tree, cache, run_length, path, end, block)
        _use_path(cache, path, deepest, clock)
        length = tree[path[end]].depth
        excess = (
            _size(blocks, tokens, costs) + _need(length, matched, hits, block, costs) - capacity
        )
        fits = not strict or _need(length, 0, 0, block, costs) <= capacity
        while fits and excess > 0:
            clock += 1
            evict_calls += 1
            if first_eviction == 0:
                first_eviction = i + 1
            gone, gone_tokens = _evict(cache, excess, costs, block, i + 1, evictions, leaves, log)
            blocks -= gone
            tokens -= gone_tokens
            leaves += gone
            evicted[i] += gone
            if not strict:
                break
            matched, hits, _ = _lookup(tree, cache, run_length, path, end, block)
            need = _need(length, matched, hits, block, costs)
            excess = _size(blocks, tokens, costs) + need - capacity
            fits = excess <= 0 or gone > 0
        if not fits:
            continue
        added, added_tokens = _insert(tree, cache, run_length, path, end, block, i)
        if length % block > 0:
            use(cache, len(tree) + path[end], clock)
        _use_path(cache, path, end, clock)
        blocks += added
        tokens += added_tokens
        peak = max(peak, _size(blocks, tokens, costs))

    counters = np.array([clock, first_eviction, evict_calls, leaves, 0, peak])
    evictions = first_entries(evictions, leaves if log else 0)
    return skipped, evicted, counters, evictions, cache


@in_place
def _size(blocks: float, tokens: int, costs: Costs) -> float:
    return costs.state_bytes * blocks + costs.kv_bytes * tokens


@in_place
def _need(length: int, matched: int, hits: int, block: int, costs: Costs) -> float:
    """Return the bytes that the insertion of `length` tokens takes.

    The reference counts the root as a block hit, so one block too few, and fractions of blocks.
    """
    if costs.corrections.capacity:
        return _size(float((length + block - 1) // block - hits), length - matched, costs)
    new_tokens = length - block * (hits + 1)
    return _size(new_tokens / block, new_tokens, costs)


@compiled
def _empty_cache(names: int) -> Records:
    cache = np.empty(names, NODE)
    for name in range(names):
        forget_children(cache, name)
        cache[name].tails = 0
        cache[name].cached = 0
        cache[name].older = ABSENT
    cache[ROOT].older = ROOT
    cache[ROOT].newer = ROOT
    return cache


@in_place
def _lookup(
    tree: Records,
    cache: Records,
    run_length: NDArray[np.int64],
    path: Ints,
    end: int,
    block: int,
) -> tuple[int, int, int]:
    """Match the sequence that ends at ``path[end]``.

    Returns:
        (tokens matched, blocks hit, level down to which runs are hit, the last perhaps in part).
    """
    node, hits, level = ROOT, 0, 0
    while level < end:
        run = path[level + 1]
        if cache[run].cached < run_length[run]:
            if cache[run].cached > 0:
                hits += cache[run].cached
                return hits * block, hits, level + 1
            break
        level += 1
        if run_length[run] > 0:
            hits += run_length[run]
            node = run
    tail, _ = _matching_tails(tree, cache, run_length, path, end, node)
    if tail != ABSENT:
        return hits * block + cache[tail].cached, hits + 1, level
    return hits * block, hits, level


@in_place
def _matching_tails(
    tree: Records,
    cache: Records,
    run_length: NDArray[np.int64],
    path: Ints,
    end: int,
    node: int,
) -> tuple[int, int]:
    """Find the tails among `node`'s children that the sequence matches wholly.

    Returns:
        (the first of them in the order of children, the longest); ABSENT when there is none.
    """
    first, longest = ABSENT, ABSENT
    if cache[node].tails == 0:
        return first, longest
    level = tree[node].level
    while True:
        tail = len(tree) + path[level]
        if cache[tail].cached > 0:
            longest = tail
            if first == ABSENT or cache[tail].rank < cache[first].rank:
                first = tail
        level += 1
        if level > end or run_length[path[level]] > 0:
            return first, longest


@in_place
def _insert(
    tree: Records,
    cache: Records,
    run_length: NDArray[np.int64],
    path: Ints,
    end: int,
    block: int,
    rank: int,
) -> tuple[int, int]:
    """Insert the sequence that ends at ``path[end]``; return (blocks, tokens) added."""
    nodes = len(tree)
    parent, added, added_tokens = ROOT, 0, 0
    for level in range(1, end + 1):
        run = path[level]
        if run_length[run] == 0:
            continue
        if cache[run].cached == 0:
            filled = _make_room(tree, cache, run_length, path, end, parent)
            added -= filled > 0
            added_tokens -= filled
            _append(cache, parent, run, nodes, rank)
        added += run_length[run] - cache[run].cached
        added_tokens += block * (run_length[run] - cache[run].cached)
        cache[run].cached = run_length[run]
        parent = run
    tail, tail_tokens = nodes + path[end], tree[path[end]].depth % block
    if tail_tokens > 0 and cache[tail].cached == 0:
        filled = _make_room(tree, cache, run_length, path, end, parent)
        added += 1 - (filled > 0)
        added_tokens += tail_tokens - filled
        _append(cache, parent, tail, nodes, rank)
        cache[tail].cached = tail_tokens
    return added, added_tokens


@in_place
def _make_room(
    tree: Records,
    cache: Records,
    run_length: NDArray[np.int64],
    path: Ints,
    end: int,
    parent: int,
) -> int:
    """Remove the tail that the next block of the sequence replaces; return its tokens, or 0.

    The reference extends a tail in place if it matches wholly and no sibling matches further, and
    moves it behind its siblings: the same as to remove it and append the longer block.
    """
    _, tail = _matching_tails(tree, cache, run_length, path, end, parent)
    if tail == ABSENT:
        return 0
    nodes = len(tree)
    tokens = cache[tail].cached
    depth = tree[tail - nodes].depth
    child = cache[parent].first_child
    while child != ABSENT:
        v = child - nodes if child >= nodes else child
        if tree[path[parting(tree, path, 0, min(tree[v].level, end), v)]].depth > depth:
            return 0
        child = cache[child].next_sibling
    _remove(cache, tail, nodes)
    return tokens


@in_place
def _append(cache: Records, parent: int, name: int, nodes: int, rank: int) -> None:
    """Make `name` the last child of `parent`."""
    append_child(cache, parent, name)
    cache[name].rank = rank
    if name >= nodes:
        cache[parent].tails += 1


@in_place
def _remove(cache: Records, name: int, nodes: int) -> None:
    """Drop a tail, or a run of which no block is left."""
    if name >= nodes:
        cache[cache[name].parent].tails -= 1
    remove_child(cache, name)
    cache[name].cached = 0
    unlink(cache, name)


@in_place
def _use_path(cache: Records, path: Ints, deepest: int, clock: int) -> None:
    """Use the cached runs of a sequence down to level `deepest`, the deepest first."""
    for level in range(deepest, 0, -1):
        if cache[path[level]].cached > 0:
            use(cache, path[level], clock)


@in_place
def _evict(
    cache: Records,
    excess: float,
    costs: Costs,
    block: int,
    request: int,
    evictions: Any,
    logged: int,
    log: bool,
) -> tuple[int, int]:
    """Evict the oldest blocks until `excess` bytes are freed; return (blocks, tokens) evicted."""
    nodes = len(cache) // 2
    per_block = costs.state_bytes + costs.kv_bytes * block
    freed, gone, gone_tokens = 0, 0, 0
    while freed < excess and cache[ROOT].newer != ROOT:
        victim = cache[ROOT].newer
        size, count = block, 1
        if victim >= nodes:
            size = int(cache[victim].cached)
        else:
            count = int((excess - freed) / per_block)
            while freed + count * per_block < excess:  # rounds up, exactly
                count += 1
            count = min(count, int(cache[victim].cached))
        if log:
            evictions.request[logged + gone : logged + gone + count] = request
            evictions.tokens[logged + gone : logged + gone + count] = size
            evictions.timestamp[logged + gone : logged + gone + count] = cache[victim].timestamp
        freed += count * (costs.state_bytes + costs.kv_bytes * size)
        gone += count
        gone_tokens += count * size
        if victim >= nodes or count == cache[victim].cached:
            _remove(cache, victim, nodes)
        else:
            cache[victim].cached -= count
    return gone, gone_tokens


def cached_nodes(tree: PrefixTree, cache: Records, block: int) -> Iterator[CachedNode]:
    """Yield the cached blocks in preorder, children in the order of the reference's dicts."""
    nodes = len(tree)
    pending = [(int(cache[ROOT]["first_child"]), 1)]
    while pending:
        name, level = pending.pop()
        if name == ABSENT:
            continue
        entry = cache[name]
        node = name if name < nodes else name - nodes
        start = int(tree.depth[tree.parent[node]]) // block * block
        count = int(entry["cached"])
        sizes = [block] * count
        if name >= nodes:
            start, sizes = int(tree.depth[node]) - count, [count]
        tokens = tree.sequence(node, start)
        for k, size in enumerate(sizes):
            children = int(entry["children"]) if k == len(sizes) - 1 else 1
            edge = tokens[k * block : k * block + size].tolist()
            yield CachedNode(level + k, edge, int(entry["timestamp"]), children)
        pending.append((int(entry["next_sibling"]), level))
        pending.append((int(entry["first_child"]), level + len(sizes)))
