"""The radix tree of cached sequences, over a compiled trace's union tree.

Cached nodes are named by the union-tree node at which they end; an edge is a run of union-tree nodes.
"""

from collections.abc import Iterator

import numpy as np

from marconi_core.jit import compiled, in_place
from marconi_core.policies.siblings import (
    ABSENT,
    SIBLING_FIELDS,
    append_child,
    forget_children,
    replace_child,
)
from marconi_core.sim.records import CachedNode, Ints, Records, parting
from marconi_core.traces.tree import ROOT, PrefixTree

NODE = np.dtype(
    [
        *SIBLING_FIELDS,
        ("top", np.int32),  # first union-tree node on the node's edge
        ("starting", np.int32),  # the cached node whose edge starts with this union-tree node
        ("candidate", np.int32),  # place among the eviction candidates, or ABSENT
        ("older", np.int32),  # links of the ring; LRU only
        ("newer", np.int32),
        ("rank", np.int32),  # orders siblings: a new key ranks last, a replaced value inherits
        ("timestamp", np.int32),  # logical time of the last use
        ("uses", np.int32),  # insertion and hits; valued nodes only
        ("floor", np.float64),  # highest value evicted before the last use; valued nodes only
    ],
    align=True,
)
"""A cached node, by the union-tree node at which it ends; all arrays have an entry for each.

64 bytes, one cache line: more would cost a third of the speed.
"""


@compiled
def empty_cache(nodes: int) -> Records:
    cache = np.empty(nodes, NODE)
    for node in range(nodes):
        forget_children(cache, node)
        cache[node].starting = ABSENT
        cache[node].candidate = ABSENT
        cache[node].older = ABSENT
        cache[node].floor = 0
    cache[ROOT].older = ROOT
    cache[ROOT].newer = ROOT
    return cache


@in_place
def lookup(
    tree: Records, tokens: Ints, cache: Records, path: Ints, end: int, whole_edges: bool
) -> tuple[int, int, int, int]:
    """Match the sequence that ends at ``path[end]``.

    Args:
        whole_edges: end at an edge that matches only in part; see `_lookup_after_partial_edge`.

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
            if whole_edges:
                return tree[path[level]].depth, tree[node].depth, last, child
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


@in_place
def _own_length(tree: Records, node: int) -> int:
    """Return the tokens on a union-tree node's own edge."""
    return tree[node].depth - tree[tree[node].parent].depth


@in_place
def set_edge(cache: Records, node: int, top: int) -> None:
    """Let `node`'s edge start with union-tree node `top`."""
    cache[node].top = top
    cache[top].starting = node


@in_place
def split(tree: Records, cache: Records, child: int, upper: int) -> None:
    """Cut `child`'s edge at `upper`, which takes its place; `child` keeps the lower part."""
    replace_child(cache, child, upper)
    cache[upper].rank = cache[child].rank
    set_edge(cache, upper, cache[child].top)
    append_child(cache, upper, child)
    top = child
    while tree[top].parent != upper:
        top = tree[top].parent
    set_edge(cache, child, top)


@in_place
def last_edge(tree: Records, cache: Records) -> int:
    """Return the tokens on the edge of the last node in preorder; it is always a candidate."""
    last = ROOT
    while cache[last].last_child != ABSENT:
        last = cache[last].last_child
    return tree[last].depth - tree[cache[last].parent].depth


@in_place
def precedes(tree: Records, cache: Records, a: int, b: int) -> bool:
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
