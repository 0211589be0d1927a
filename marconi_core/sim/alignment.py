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
    start = depth[tree.parent[old]]
    edges = [
        tree.sequence(node, first)[: depth[node] - first]
        for node, first in zip(old.tolist(), start.tolist(), strict=True)
    ]
    parent = new_id[tree.parent[old]]
    return PrefixTree(parent=parent, depth=depth[old], tokens=np.concatenate(edges)), new_id


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
