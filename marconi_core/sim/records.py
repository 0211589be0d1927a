"""What the replay kernels share: the union tree as records, and the log of evictions.

Records, not one array per field: a node's fields then lie on one cache line, and compiled functions
pass one reference instead of ten.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from marconi_core.jit import compiled, in_place
from marconi_core.traces.tree import ROOT, PrefixTree

LEAF, INTERNAL = 0, 1

Ints = NDArray[np.int32]
Records = Any
"""A structured array; ``array[i].field`` in compiled code."""

UNION_NODE = np.dtype(
    [
        ("depth", np.int64),
        ("edge_start", np.int64),
        ("parent", np.int32),
        ("level", np.int32),
        ("subtree_end", np.int32),
    ]
)
"""A node of the union tree; fields as in `PrefixTree`."""


class Evictions(NamedTuple):
    """Log of evicted nodes, in order; empty arrays when nothing is to be logged.

    Attributes:
        request: requests seen so far, the current one included.
        kind: LEAF or INTERNAL.
        tokens: tokens on the evicted node's edge.
        timestamp: logical time at which the node was last used.
    """

    request: NDArray[np.int64]
    kind: NDArray[np.int8]
    tokens: NDArray[np.int64]
    timestamp: NDArray[np.int64]


class CachedNode(NamedTuple):
    """A node of the final cache.

    Attributes:
        level: edges from the root, 1 for its children.
        tokens: tokens on the node's edge.
        timestamp: logical time of the last use.
        children: how many.
    """

    level: int
    tokens: list[int]
    timestamp: int
    children: int


def union_nodes(tree: PrefixTree) -> Records:
    """Return the union tree as UNION_NODE[nodes]."""
    nodes = np.zeros(len(tree), UNION_NODE)
    for field in ("depth", "parent", "level", "subtree_end"):
        nodes[field] = getattr(tree, field)
    nodes["edge_start"] = tree.edge_start[:-1]
    return nodes


@compiled
def empty_log(entries: int) -> Evictions:
    """Return a log with room for `entries` leaves."""
    return Evictions(
        np.empty(entries, np.int64),
        np.full(entries, LEAF, np.int8),
        np.empty(entries, np.int64),
        np.empty(entries, np.int64),
    )


@compiled
def first_entries(log: Evictions, count: int) -> Evictions:
    """Return the used part of a log."""
    return Evictions(
        log.request[:count], log.kind[:count], log.tokens[:count], log.timestamp[:count]
    )


@in_place
def fill_path(tree: Records, node: int, path: Ints) -> None:
    """Write the union-tree nodes from the root to `node` into ``path[: level + 1]``."""
    while node != ROOT:
        path[tree[node].level] = node
        node = tree[node].parent
    path[0] = ROOT


@in_place
def parting(tree: Records, path: Ints, low: int, high: int, node: int) -> int:
    """Return the deepest level in low..high at which `path` still leads to `node`."""
    while low < high:
        middle = (low + high + 1) // 2
        if path[middle] <= node < tree[path[middle]].subtree_end:
            low = middle
        else:
            high = middle - 1
    return low
