"""A union tree in which every sequence ends, and parts from others, at a multiple of some tokens."""

import numpy as np
from numpy.typing import NDArray

from marconi_core.jit import compiled
from marconi_core.traces.tree import ROOT, PrefixTree


def aligned(tree: PrefixTree, alignment: int) -> tuple[PrefixTree, NDArray[np.int32]]:
    """Cut every depth down to a multiple of `alignment`; nodes without tokens of their own go.

    Returns:
        The tree, and int32[nodes] of it for each node of the given one. Siblings may start with the
        same tokens: they part within their first block.
    """
    if alignment == 1:
        return tree, np.arange(len(tree), dtype=np.int32)
    depth = tree.depth // alignment * alignment
    kept = depth > depth[tree.parent]
    kept[ROOT] = True
    new_id = _new_ids(tree.parent, kept)
    old = np.flatnonzero(kept)
    parent, end = new_id[tree.parent[old]], depth[old]
    tokens = _edges(
        tree.parent, tree.depth, tree.edge_start, tree.tokens, old, depth[tree.parent[old]], end
    )
    return PrefixTree(parent=parent, depth=end, tokens=tokens), new_id


@compiled
def _new_ids(parent, kept):  # type: ignore[no-untyped-def]
    """Number the kept nodes; the others get their nearest kept ancestor's number."""
    new_id = np.zeros(len(parent), np.int32)
    count = 0
    for node in range(len(parent)):
        if kept[node]:
            new_id[node] = count
            count += 1
        else:
            new_id[node] = new_id[parent[node]]
    return new_id


@compiled
def _edges(parent, depth, edge_start, tokens, nodes, start, end):  # type: ignore[no-untyped-def]
    """Return the tokens on the way to each of `nodes` from depth `start` to depth `end`."""
    found = np.empty((end - start).sum(), np.int32)
    position = 0
    for i in range(len(nodes)):
        node = nodes[i]
        while depth[node] > start[i]:
            low = max(depth[parent[node]], start[i])
            length = max(min(depth[node], end[i]) - low, 0)
            to, first = position + low - start[i], edge_start[node] + low - depth[parent[node]]
            found[to : to + length] = tokens[first : first + length]
            node = parent[node]
        position += end[i] - start[i]
    return found
