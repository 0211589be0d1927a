"""Where a leaf of the radix cache stands among all leaves in DFS preorder, without counting them anew.

All leaves are numbered in preorder now and then. A leaf that comes later is counted with the one
before it, and has no number of its own; a node that takes a leaf's place takes its number. So how
many leaves come before a number is a sum of counts, kept as a Fenwick tree.

Only where the oldest leaves tie is the place of one of them asked for. If such a leaf has no number,
all are numbered anew. That is rare: by then every leaf of the last numbering has been used again, is
evicted, or is about to be, since all of them are older.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from marconi_core.jit import compiled, in_place
from marconi_core.policies.siblings import ABSENT, following
from marconi_core.sim.records import Ints, Records
from marconi_core.traces.tree import ROOT


class LeafOrder(NamedTuple):
    """The leaves in preorder; the root is the only leaf of an empty cache.

    Attributes:
        number: int32[nodes]; of each leaf, or ~number of the one that it is counted with.
        counts: int64[nodes + 1]; Fenwick tree: leaves by number + 1.
        totals: int64[2]; leaves, and numbers given.
    """

    number: Ints
    counts: NDArray[np.int64]
    totals: NDArray[np.int64]


LEAVES, NUMBERS = 0, 1


@compiled
def empty_order(nodes: int) -> LeafOrder:
    """Return the order of an empty cache with room for `nodes` nodes, the root included."""
    return LeafOrder(np.zeros(nodes, np.int32), np.ones(nodes + 1, np.int64), np.ones(2, np.int64))


@in_place
def add_leaf(order: LeafOrder, cache: Records, leaf: int) -> None:
    """A new leaf is the last child of its parent now."""
    if cache[leaf].previous_sibling == ABSENT:  # the parent was a leaf
        order.number[leaf] = order.number[cache[leaf].parent]
        return
    before = cache[leaf].previous_sibling
    while cache[before].last_child != ABSENT:
        before = cache[before].last_child
    number = _counted_with(order, before)
    order.number[leaf] = ~number
    _count(order, number, 1)


@in_place
def remove_leaf(order: LeafOrder, cache: Records, leaf: int) -> None:
    """A leaf is no longer among its parent's children."""
    parent = cache[leaf].parent
    if cache[parent].children == 0:
        order.number[parent] = order.number[leaf]
    else:
        _count(order, _counted_with(order, leaf), -1)


@in_place
def place_of(order: LeafOrder, leaf: int) -> int:
    """Return how many leaves come before one that has a number."""
    total, entry = 0, order.number[leaf]
    while entry > 0:
        total += order.counts[entry]
        entry &= entry - 1
    return total


@in_place
def number_anew(order: LeafOrder, cache: Records) -> None:
    """Give every leaf a number."""
    node, count = ROOT, 0
    while node != ABSENT:
        if cache[node].first_child == ABSENT:
            order.number[node] = count
            count += 1
            order.counts[count] = count & -count
        node = following(cache, node, ROOT)
    order.totals[NUMBERS] = count


@in_place
def _counted_with(order: LeafOrder, leaf: int) -> int:
    number = order.number[leaf]
    return number if number >= 0 else ~number


@in_place
def _count(order: LeafOrder, number: int, change: int) -> None:
    order.totals[LEAVES] += change
    entry = number + 1
    while entry <= order.totals[NUMBERS]:
        order.counts[entry] += change
        entry += entry & -entry
