"""The children of a node as a linked list, in trees whose nodes are entries of a structured array.

Children are in the order in which a dict has its keys: what the paper's simulator evicts depends on
it. A server's tree has no use for the order.
"""

from typing import Any

import numpy as np

from marconi_core.jit import in_place

ABSENT = -1

SIBLING_FIELDS = [
    ("parent", np.int32),
    ("first_child", np.int32),
    ("last_child", np.int32),
    ("next_sibling", np.int32),
    ("previous_sibling", np.int32),
    ("children", np.int32),  # how many
]
"""Fields that a node needs for its place in a tree."""


@in_place
def forget_children(nodes: Any, node: int) -> None:
    """Let a node that is new, or used again, have no children."""
    nodes[node].first_child = ABSENT
    nodes[node].last_child = ABSENT
    nodes[node].children = 0


@in_place
def append_child(nodes: Any, parent: int, node: int) -> None:
    """Make `node` the last child of `parent`, as a new key of a dict."""
    previous = nodes[parent].last_child
    nodes[node].parent = parent
    nodes[node].previous_sibling = previous
    nodes[node].next_sibling = ABSENT
    _link(nodes, parent, previous, node)
    nodes[parent].last_child = node
    nodes[parent].children += 1


@in_place
def replace_child(nodes: Any, old: int, new: int) -> None:
    """Put `new` in `old`'s place among its siblings, as a new value of the same key."""
    _link(nodes, nodes[old].parent, nodes[old].previous_sibling, new)
    nodes[new].next_sibling = nodes[old].next_sibling
    _link_back(nodes, nodes[old].parent, nodes[old].next_sibling, new)
    nodes[new].previous_sibling = nodes[old].previous_sibling
    nodes[new].parent = nodes[old].parent


@in_place
def remove_child(nodes: Any, node: int) -> None:
    """Take `node` out of its parent's children."""
    parent = nodes[node].parent
    _link(nodes, parent, nodes[node].previous_sibling, nodes[node].next_sibling)
    _link_back(nodes, parent, nodes[node].next_sibling, nodes[node].previous_sibling)
    nodes[parent].children -= 1


@in_place
def following(nodes: Any, node: int, top: int, below: bool = True) -> int:
    """Return the node after `node` in a walk through all below `top`, parents first; ABSENT at its end.

    Args:
        below: whether what is below `node` is a part of the walk.
    """
    if below and nodes[node].first_child != ABSENT:
        return nodes[node].first_child
    while node != top and nodes[node].next_sibling == ABSENT:
        node = nodes[node].parent
    return ABSENT if node == top else nodes[node].next_sibling


@in_place
def _link(nodes: Any, parent: int, before: int, node: int) -> None:
    """Let `node` follow `before`; ABSENT is the end of the list on either side."""
    if before == ABSENT:
        nodes[parent].first_child = node
    else:
        nodes[before].next_sibling = node


@in_place
def _link_back(nodes: Any, parent: int, after: int, node: int) -> None:
    """Let `node` precede `after`; ABSENT is the end of the list on either side."""
    if after == ABSENT:
        nodes[parent].last_child = node
    else:
        nodes[after].previous_sibling = node
