"""The paper's radix cache in one byte-sized pool, replayed on a compiled trace.

Serves `sglang_plus` (least recently used leaf) and `marconi`/`oracle` (FLOP-aware eviction) with
every quirk of the paper's simulator, so that results agree with it bit for bit. Cached nodes are
named by the union-tree node at which they end; an edge is a run of union-tree nodes.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from marconi_core.jit import compiled
from marconi_core.policies.candidates import (
    Candidates,
    add,
    change,
    empty_candidates,
    remove,
    search,
    touch,
)
from marconi_core.policies.flop_aware import efficiency, kv_bytes, state_bytes
from marconi_core.sim import heap
from marconi_core.sim.records import (
    ABSENT,
    INTERNAL,
    LEAF,
    SIBLING_FIELDS,
    CachedNode,
    Ints,
    Records,
    append_child,
    empty_log,
    fill_path,
    first_entries,
    parting,
    remove_child,
    replace_child,
)
from marconi_core.sim.ring import unlink, use
from marconi_core.traces.tree import ROOT, PrefixTree

heapify, pop, push = heap.heapify, heap.pop, heap.push

NODE = np.dtype(
    [
        *SIBLING_FIELDS,
        ("top", np.int32),  # first union-tree node on the node's edge
        ("starting", np.int32),  # the cached node whose edge starts with this union-tree node
        ("candidate", np.int32),  # place among the eviction candidates, or ABSENT
        ("timestamp", np.int64),  # logical time of the last use
        ("older", np.int32),  # links of the ring; LRU only
        ("newer", np.int32),
        ("rank", np.int64),  # orders siblings: a new key ranks last, a replaced value inherits
    ],
    align=True,
)
"""A cached node, by the union-tree node at which it ends; all arrays have an entry for each."""


@compiled
def replay(
    tree: Records,
    tokens: Ints,
    in_node: Ints,
    out_node: Ints,
    requests: int,
    geometry: Any,
    capacity: float,
    lru: bool,
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
        geometry: a `models.paper.Geometry`.
        capacity: bytes.
        lru: evict the least recently used leaf instead of by FLOP-aware score.
        alpha, switch_at, alpha_after: `alpha_after` replaces `alpha` when request number
            `switch_at` (from 1) is inserted; 0 never switches.
        log: keep the eviction log.

    Returns:
        (skipped int64[requests], evicted int32[requests], counters int64[6], log, cache): tokens
        of the prompt served from the cache and nodes evicted, per request; counters are clock,
        requests seen at the first eviction (0: none), evict calls, leaf and internal evictions,
        peak bytes; the `Evictions`; and the final NODE[nodes].
    """
    cache = _empty_cache(len(tree))
    candidates = empty_candidates(1 if lru else len(tree))
    evictions = empty_log(2 * requests if log else 0)  # an insertion adds at most two nodes
    levels = 1
    for i in range(requests):
        levels = max(levels, tree[out_node[i]].level + 1)
    path = np.empty(levels, np.int32)
    skipped = np.zeros(requests, np.int64)
    evicted = np.zeros(requests, np.int32)

    per_node = geometry.num_ssm_layers * state_bytes(geometry.d, geometry.n)
    per_token = geometry.num_attn_layers * kv_bytes(geometry.d)
    cached_nodes, cached_tokens, rank, clock = 0, 0, 0, 0
    first_eviction, evict_calls, leaves, internals, peak = 0, 0, 0, 0, 0

    for i in range(requests):
        fill_path(tree, out_node[i], path)
        end = tree[out_node[i]].level
        length = tree[out_node[i]].depth

        clock += 1
        _, skipped[i], last, _ = _lookup(tree, tokens, cache, path, tree[in_node[i]].level)
        if not lru:  # LRU: the insertion's own lookup stamps all that this one would
            _stamp(cache, candidates, last, clock)

        clock += 2  # the insertion, and its own lookup
        if i + 1 == switch_at:
            alpha = alpha_after
        matched, on_whole_edges, last, entered = _lookup(tree, tokens, cache, path, end)
        if lru:
            _use_path(cache, entered, clock)
        else:
            _stamp(cache, candidates, last, clock)
        need = per_node * (2 if matched > on_whole_edges else 1) + per_token * (length - matched)
        excess = per_node * cached_nodes + per_token * cached_tokens + need - capacity
        if excess > 0:
            clock += 1
            evict_calls += 1
            if first_eviction == 0:
                first_eviction = i + 1
            if lru:
                gone, gone_tokens = _evict_lru(
                    tree, cache, cached_nodes, excess, per_node, per_token,
                    i + 1, evictions, leaves, log,
                )  # fmt: skip
                gone_leaves = gone
            else:
                gone, gone_tokens, gone_leaves = _evict_flop_aware(
                    tree, cache, candidates, excess, per_node, per_token, geometry,
                    clock, alpha, i + 1, evictions, leaves + internals, log,
                )  # fmt: skip
            cached_nodes -= gone
            cached_tokens -= gone_tokens
            leaves += gone_leaves
            internals += gone - gone_leaves
            evicted[i] = gone
        added, added_tokens = _insert(
            tree, cache, candidates, path, end, clock, rank, geometry, lru
        )
        rank += 1
        cached_nodes += added
        cached_tokens += added_tokens
        peak = max(peak, per_node * cached_nodes + per_token * cached_tokens)

    counters = np.array([clock, first_eviction, evict_calls, leaves, internals, peak])
    evictions = first_entries(evictions, leaves + internals if log else 0)
    return skipped, evicted, counters, evictions, cache


@compiled
def _empty_cache(nodes: int) -> Records:
    cache = np.empty(nodes, NODE)
    for node in range(nodes):
        cache[node].children = 0
        cache[node].first_child = ABSENT
        cache[node].last_child = ABSENT
        cache[node].starting = ABSENT
        cache[node].candidate = ABSENT
        cache[node].older = ABSENT
    cache[ROOT].older = ROOT
    cache[ROOT].newer = ROOT
    return cache


@compiled
def _lookup(
    tree: Records, tokens: Ints, cache: Records, path: Ints, end: int
) -> tuple[int, int, int, int]:
    """Match the sequence that ends at ``path[end]``.

    Returns:
        (tokens matched, tokens on wholly matched edges, deepest wholly matched node or ABSENT,
        deepest node entered, wholly matched or not).
    """
    node, level, last = ROOT, 0, ABSENT
    while True:
        child = cache[path[level + 1]].starting if level < end else ABSENT
        if child == ABSENT:
            return tree[node].depth, tree[node].depth, last, node
        child_level = tree[child].level
        if child_level > end or path[child_level] != child:
            level = parting(tree, path, level + 1, min(child_level, end), child)
            return _lookup_after_partial_edge(
                tree, tokens, cache, path, level, end, child, tree[node].depth, last
            )
        node, level, last = child, child_level, child


@compiled
def _lookup_after_partial_edge(
    tree: Records,
    tokens: Ints,
    cache: Records,
    path: Ints,
    level: int,
    end: int,
    node: int,
    on_whole_edges: int,
    last: int,
) -> tuple[int, int, int, int]:
    """Go on below an edge that matched only down to ``path[level]``, as the reference does.

    The reference descends into the children of a partly matched node and compares their edges with
    the rest of the sequence, though the positions no longer agree. Such a false hit counts. Here
    tokens have to be compared; it is rare that a child's first token agrees.
    """
    matched = tree[path[level]].depth
    total = tree[path[end]].depth
    sequence, level = path[level + 1 : end + 1], 0
    offset = 0  # the next token is at this offset on the edge of sequence[level]
    while True:
        child = ABSENT
        if matched < total:
            token = tokens[tree[sequence[level]].edge_start + offset]
            child = cache[node].first_child
            while child != ABSENT and tokens[tree[cache[child].top].edge_start] != token:
                child = cache[child].next_sibling
        if child == ABSENT:
            return matched, on_whole_edges, last, node
        edge = _edge_tokens(tree, tokens, cache, child)
        common = 0
        while (
            common < len(edge)
            and matched < total
            and tokens[tree[sequence[level]].edge_start + offset] == edge[common]
        ):
            common += 1
            matched += 1
            offset += 1
            if offset == _own_length(tree, sequence[level]):
                level, offset = level + 1, 0
        if common == len(edge):
            on_whole_edges += common
            last = child
        node = child


@compiled
def _edge_tokens(tree: Records, tokens: Ints, cache: Records, node: int) -> Ints:
    """Return the tokens on a cached node's edge, which may run over several union-tree edges."""
    start = tree[cache[node].parent].depth
    edge = np.empty(tree[node].depth - start, np.int32)
    while tree[node].depth > start:
        first, length = tree[node].edge_start, _own_length(tree, node)
        edge[tree[node].depth - start - length : tree[node].depth - start] = tokens[
            first : first + length
        ]
        node = tree[node].parent
    return edge


@compiled
def _own_length(tree: Records, node: int) -> int:
    """Return the tokens on a union-tree node's own edge."""
    return tree[node].depth - tree[tree[node].parent].depth


@compiled
def _stamp(cache: Records, candidates: Candidates, node: int, clock: int) -> None:
    """Mark a node as used now (ABSENT: none)."""
    if node != ABSENT:
        cache[node].timestamp = clock
        place = cache[node].candidate
        if place != ABSENT:
            touch(candidates, place, clock)


@compiled
def _use_path(cache: Records, node: int, clock: int) -> None:
    """LRU: mark a node and its ancestors as used now, the deepest first."""
    while node != ROOT:
        use(cache, node, clock)
        node = cache[node].parent


@compiled
def _insert(
    tree: Records,
    cache: Records,
    candidates: Candidates,
    path: Ints,
    end: int,
    clock: int,
    rank: int,
    geometry: Any,
    lru: bool,
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
            _set_edge(cache, node, top)
            cache[node].rank = rank
            cache[node].timestamp = clock
            added += 1
            added_tokens = tree[node].depth - tree[parent].depth
            if not lru:
                _review(tree, cache, candidates, parent, geometry)
                _review(tree, cache, candidates, node, geometry)
            break
        child_level = tree[child].level
        if child_level <= end and path[child_level] == child:
            if child_level == end:  # the reference does not stamp the node at which all ends
                break
            node, level = child, child_level
            continue
        level = parting(tree, path, level + 1, min(child_level, end), child)
        node = path[level]
        _split(tree, cache, child, node)
        cache[node].timestamp = clock
        added += 1
        if not lru:
            _review(tree, cache, candidates, node, geometry)
            _review(tree, cache, candidates, child, geometry)
    if lru:
        _use_path(cache, node, clock)
    return added, added_tokens


@compiled
def _set_edge(cache: Records, node: int, top: int) -> None:
    """Let `node`'s edge start with union-tree node `top`."""
    cache[node].top = top
    cache[top].starting = node


@compiled
def _split(tree: Records, cache: Records, child: int, upper: int) -> None:
    """Cut `child`'s edge at `upper`, which takes its place; `child` keeps the lower part."""
    replace_child(cache, child, upper)
    cache[upper].rank = cache[child].rank
    _set_edge(cache, upper, cache[child].top)
    append_child(cache, upper, child)
    top = child
    while tree[top].parent != upper:
        top = tree[top].parent
    _set_edge(cache, child, top)


@compiled
def _review(
    tree: Records, cache: Records, candidates: Candidates, node: int, geometry: Any
) -> None:
    """Bring `node`'s candidacy and efficiency up to date after its edge or children changed."""
    if node == ROOT:
        return
    if cache[node].children > 1:
        _withdraw(cache, candidates, node)
        return
    worth = efficiency(tree[cache[node].parent].depth, tree[node].depth, geometry)
    if cache[node].candidate == ABSENT:
        cache[node].candidate = add(candidates, node, worth, cache[node].timestamp)
    else:
        change(candidates, cache[node].candidate, worth, cache[node].timestamp)


@compiled
def _withdraw(cache: Records, candidates: Candidates, node: int) -> None:
    """Remove `node` from the candidates, if it is one."""
    place = cache[node].candidate
    if place != ABSENT:
        moved = remove(candidates, place)
        cache[moved].candidate = place
        cache[node].candidate = ABSENT


@compiled
def _evict_flop_aware(
    tree: Records,
    cache: Records,
    candidates: Candidates,
    excess: float,
    per_node: int,
    per_token: int,
    geometry: Any,
    clock: int,
    alpha: float,
    request: int,
    evictions: Any,
    logged: int,
    log: bool,
) -> tuple[int, int, int]:
    """Evict lowest scores until `excess` bytes are counted as freed.

    A leaf is deleted; a node with one child gives up its state and the child absorbs its edge.
    The reference counts for a leaf the bytes of the *last* candidate in preorder, not its own.

    Returns:
        (nodes, tokens, leaves) evicted.
    """
    freed, gone, gone_tokens, leaves = 0, 0, 0, 0
    while freed < excess and candidates.used[0] > 0:
        victim = _lowest(tree, cache, candidates, clock, alpha)
        parent = cache[victim].parent
        edge = tree[victim].depth - tree[parent].depth
        leaf = cache[victim].children == 0
        if log:
            evictions.request[logged + gone] = request
            evictions.kind[logged + gone] = LEAF if leaf else INTERNAL
            evictions.tokens[logged + gone] = edge
            evictions.timestamp[logged + gone] = cache[victim].timestamp
        gone += 1
        freed += per_node
        _withdraw(cache, candidates, victim)
        cache[cache[victim].top].starting = ABSENT
        if leaf:
            freed += per_token * _last_edge(tree, cache)
            gone_tokens += edge
            leaves += 1
            remove_child(cache, victim)
            _review(tree, cache, candidates, parent, geometry)
        else:
            child = cache[victim].first_child
            cache[cache[child].top].starting = ABSENT
            replace_child(cache, victim, child)
            cache[child].rank = cache[victim].rank
            cache[child].timestamp = max(cache[child].timestamp, cache[victim].timestamp)
            _set_edge(cache, child, cache[victim].top)
            _forget_children(cache, victim)
            _review(tree, cache, candidates, child, geometry)
    return gone, gone_tokens, leaves


@compiled
def _forget_children(cache: Records, node: int) -> None:
    """Reset an absorbed node, so that it can be cached again."""
    cache[node].children = 0
    cache[node].first_child = ABSENT
    cache[node].last_child = ABSENT


@compiled
def _last_edge(tree: Records, cache: Records) -> int:
    """Return the tokens on the edge of the last node in preorder; it is always a candidate."""
    last = ROOT
    while cache[last].last_child != ABSENT:
        last = cache[last].last_child
    return tree[last].depth - tree[cache[last].parent].depth


@compiled
def _lowest(tree: Records, cache: Records, candidates: Candidates, clock: int, alpha: float) -> int:
    """Return the candidate with the lowest score; of equals, the first in DFS preorder."""
    ties = search(candidates, clock, alpha)
    victim = candidates.tied[0]
    for node in candidates.tied[1:ties]:
        if _precedes(tree, cache, node, victim):
            victim = node
    return victim


@compiled
def _precedes(tree: Records, cache: Records, a: int, b: int) -> bool:
    """Tell whether `a` comes before `b` in DFS preorder of the cache."""
    below_a, below_b = ABSENT, ABSENT
    while a != b:  # climb the deeper of the two; an ancestor is never deeper than its descendant
        if tree[a].depth >= tree[b].depth:
            below_a, a = a, cache[a].parent
        else:
            below_b, b = b, cache[b].parent
    if below_a == ABSENT:
        return True
    if below_b == ABSENT:
        return False
    return cache[below_a].rank < cache[below_b].rank


@compiled
def _evict_lru(
    tree: Records,
    cache: Records,
    cached: int,
    excess: float,
    per_node: int,
    per_token: int,
    request: int,
    evictions: Any,
    logged: int,
    log: bool,
) -> tuple[int, int]:
    """Evict least recently used leaves until `excess` bytes are freed.

    The oldest node is always a leaf. Where timestamps tie, the reference leaves the order to
    Python's heapq over the leaves in DFS preorder; then, and only then, that heap is built.

    Returns:
        (nodes, tokens) evicted.
    """
    tied = _ties_matter(tree, cache, excess, per_node, per_token)
    leaves = np.empty(cached + 1 if tied else 0, np.int32)
    size = 0
    if tied:
        size = _collect_leaves(cache, leaves)
        heapify(leaves, size, cache)
    freed, gone, gone_tokens = 0, 0, 0
    while freed < excess:
        victim = cache[ROOT].newer
        if victim == ROOT:
            break
        if tied:
            victim = pop(leaves, size, cache)
            size -= 1
        parent = cache[victim].parent
        edge = tree[victim].depth - tree[parent].depth
        if log:
            evictions.request[logged + gone] = request
            evictions.tokens[logged + gone] = edge
            evictions.timestamp[logged + gone] = cache[victim].timestamp
        freed += per_node + per_token * edge
        gone += 1
        gone_tokens += edge
        remove_child(cache, victim)
        unlink(cache, victim)
        cache[cache[victim].top].starting = ABSENT
        if tied and parent != ROOT and cache[parent].children == 0:
            push(leaves, size, parent, cache)
            size += 1
    return gone, gone_tokens


@compiled
def _ties_matter(
    tree: Records, cache: Records, excess: float, per_node: int, per_token: int
) -> bool:
    """Tell whether two leaves of the same age may compete while `excess` bytes are freed.

    They do not if the nodes of each age reached are one chain from a node up to its ancestors.
    """
    freed = 0
    node = cache[ROOT].newer
    while node != ROOT:
        newer, parent = cache[node].newer, cache[node].parent
        freed += per_node + per_token * (tree[node].depth - tree[parent].depth)
        same_age = newer != ROOT and cache[newer].timestamp == cache[node].timestamp
        if same_age and newer != parent:
            return True
        if freed >= excess and not same_age:
            return False
        node = newer
    return False


@compiled
def _collect_leaves(cache: Records, leaves: Ints) -> int:
    """Write the nodes without children in DFS preorder; the root if it is the only node."""
    node, count = ROOT, 0
    while True:
        if cache[node].first_child != ABSENT:
            node = cache[node].first_child
            continue
        leaves[count] = node
        count += 1
        while node != ROOT and cache[node].next_sibling == ABSENT:
            node = cache[node].parent
        if node == ROOT:
            return count
        node = cache[node].next_sibling


def cached_nodes(tree: PrefixTree, cache: Records) -> Iterator[CachedNode]:
    """Yield the cached nodes in preorder, children in the order of the reference's dicts."""
    pending = [(int(cache[ROOT]["first_child"]), 1)]
    while pending:
        node, level = pending.pop()
        if node == ABSENT:
            continue
        entry = cache[node]
        edge = tree.sequence(node, int(tree.depth[entry["parent"]])).tolist()
        yield CachedNode(level, edge, int(entry["timestamp"]), int(entry["children"]))
        pending.append((int(entry["next_sibling"]), level))
        pending.append((int(entry["first_child"]), level + 1))
