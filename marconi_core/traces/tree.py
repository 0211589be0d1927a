"""The union radix tree of a trace: every prompt and output once, as a compact set of arrays.

All policies see the same token sequences, so token content is static. Each position at which a
simulated cache can ever cut an edge is either the end of a prompt, the end of a prompt plus output,
or the point where two sequences part. The union tree has a node at each of them, and a simulation
then needs node ids and lengths only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numba import typed, types
from numpy.typing import NDArray

from marconi_core.errors import TraceError
from marconi_core.jit import compiled

ROOT = 0
MAX_TOKEN = 2**31 - 1
MAX_TOKENS = 2**30  # distinct ones of a tree: 4 GiB, and three times that while it is built


@dataclass(frozen=True)
class PrefixTree:
    """A radix tree over token ids; node 0 is the empty prefix, ids are in DFS preorder.

    Attributes:
        parent: int32[nodes]; the root's parent is itself.
        depth: int64[nodes]; tokens from the root to the end of the node's edge.
        tokens: int32[depth summed over edges]; the edges' tokens, concatenated in node order.
    """

    parent: NDArray[np.int32]
    depth: NDArray[np.int64]
    tokens: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.parent)

    @cached_property
    def edge_start(self) -> NDArray[np.int64]:
        """int64[nodes + 1]; node i's edge is ``tokens[edge_start[i]:edge_start[i + 1]]``."""
        lengths = self.depth - self.depth[self.parent]
        return np.concatenate(([0], np.cumsum(lengths)))

    @cached_property
    def level(self) -> NDArray[np.int32]:
        """int32[nodes]; number of edges between the root and the node."""
        return _levels(self.parent)

    @cached_property
    def subtree_end(self) -> NDArray[np.int32]:
        """int32[nodes]; ``a`` is ``c`` or an ancestor of it iff ``a <= c < subtree_end[a]``."""
        return _subtree_ends(self.parent)

    def check(self) -> None:
        """Check that `PrefixTreeBuilder` can have made the tree.

        Raises:
            ValueError: names the field.
        """
        if not 0 < len(self.parent) == len(self.depth):
            raise ValueError(f"depth: {len(self.depth)} entries, but {len(self.parent)} of parent")
        if len(self.tokens) and self.tokens.min() < 0:
            raise ValueError("tokens: a token is negative")
        if (node := _first_fault(self.parent, self.depth, self.tokens)) >= 0:
            raise ValueError(f"parent, depth, tokens: no tree at node {node}")

    def path(self, node: int) -> NDArray[np.int32]:
        """Return the node ids from the root (included) to `node`: int32[level + 1]."""
        path = np.empty(self.level[node] + 1, np.int32)
        for i in range(len(path) - 1, -1, -1):
            path[i] = node
            node = self.parent[node]
        return path

    def sequence(self, node: int, start: int = 0) -> NDArray[np.int32]:
        """Return the tokens from depth `start` to the end of `node`: int32[depth - start]."""
        edges = [self.tokens[self.edge_start[i] : self.edge_start[i + 1]] for i in self.path(node)]
        return np.concatenate(edges)[start:]


class PrefixTreeBuilder:
    """Grows the union tree one sequence at a time; memory is bounded by the distinct tokens."""

    def __init__(self) -> None:
        self._nodes = 1
        self._used = 0
        self._parent = np.zeros(1024, np.int32)
        self._start = np.zeros(1024, np.int64)  # first token of the edge in the pool
        self._length = np.zeros(1024, np.int64)  # tokens on the edge
        self._pool = np.empty(1 << 16, np.int32)
        # child by (node, first token of its edge): a root may have as many children as the vocabulary
        self._children = typed.Dict.empty(types.int64, types.int64)

    def add(self, tokens: Sequence[int] | NDArray[np.integer], mark: int) -> tuple[int, int]:
        """Add a sequence; return handles of the nodes that end at depth `mark` and at its end.

        Args:
            tokens: token ids, 0 <= id < 2**31.
            mark: a depth at which a node must end, 0 < mark <= len(tokens) (the prompt's length).

        Raises:
            TraceError: the tree gets too large.
        """
        array = np.ascontiguousarray(tokens, dtype=np.int32)
        self._reserve(len(array))
        self._nodes, self._used, inner, end = _insert(
            array,
            mark,
            self._nodes,
            self._used,
            self._parent,
            self._start,
            self._length,
            self._pool,
            self._children,
        )
        return inner, end

    def build(self) -> tuple[PrefixTree, NDArray[np.int32]]:
        """Return the tree and int32[handles]: the node id of each handle that `add` gave out."""
        parent = self._parent[: self._nodes]
        first_token = self._pool[self._start[: self._nodes]]
        new_id = _preorder(parent, np.argsort(first_token, kind="stable"))
        order = np.argsort(new_id)
        tree = PrefixTree(
            parent=new_id[parent[order]],
            depth=_depths(new_id[parent[order]], self._length[order]),
            tokens=_gather(self._pool, self._start[order], self._length[order]),
        )
        return tree, new_id

    def _reserve(self, tokens: int) -> None:
        """Make room for the two nodes and the tokens that one insertion may add."""
        if self._used + tokens > MAX_TOKENS:
            raise TraceError(
                f"the trace has more than {MAX_TOKENS:,} different tokens, which is more than memory "
                "can be expected to hold; cut it into several"
            )
        if self._nodes + 3 > len(self._parent):
            for name in ("_parent", "_start", "_length"):
                array = getattr(self, name)
                setattr(self, name, np.concatenate((array, np.zeros_like(array))))
        if self._used + tokens > len(self._pool):
            grown = np.empty(min(2 * (self._used + tokens), MAX_TOKENS), np.int32)
            grown[: self._used] = self._pool[: self._used]
            self._pool = grown


@compiled
def _insert(tokens, mark, nodes, used, parent, start, length, pool, children):  # type: ignore[no-untyped-def]
    node, position = 0, 0
    while position < len(tokens):
        key = (np.int64(node) << 32) | tokens[position]
        if key not in children:
            pool[used : used + len(tokens) - position] = tokens[position:]
            parent[nodes], start[nodes] = node, used
            length[nodes] = len(tokens) - position
            used += len(tokens) - position
            position = len(tokens)
            children[key] = nodes
            node = nodes
            nodes += 1
            break
        child = children[key]
        common, limit = 1, min(length[child], len(tokens) - position)
        while common < limit and pool[start[child] + common] == tokens[position + common]:
            common += 1
        if common < length[child]:
            _split(child, common, nodes, parent, start, length, pool, children)
            child = nodes
            nodes += 1
        node = child
        position += common

    end, inner, depth = node, node, position
    while depth - length[inner] >= mark:
        depth -= length[inner]
        inner = parent[inner]
    if depth > mark:
        _split(inner, mark - (depth - length[inner]), nodes, parent, start, length, pool, children)
        inner = nodes
        nodes += 1
    return nodes, used, inner, end


@compiled
def _split(child, at, upper, parent, start, length, pool, children):  # type: ignore[no-untyped-def]
    """Cut `child`'s edge after `at` tokens: new node `upper` above, `child` keeps the lower part."""
    parent[upper], start[upper], length[upper] = parent[child], start[child], at
    children[(np.int64(parent[child]) << 32) | pool[start[child]]] = upper
    start[child] += at
    length[child] -= at
    parent[child] = upper
    children[(np.int64(upper) << 32) | pool[start[child]]] = child


@compiled
def _preorder(parent, by_token):  # type: ignore[no-untyped-def]
    """Return the DFS preorder rank of each node; siblings in order of their edges' first tokens.

    So the same sequences give the same ids, whatever order they were added in.
    """
    n = len(parent)
    first = np.full(n, -1, np.int32)
    following = np.full(n, -1, np.int32)
    for i in by_token[::-1]:
        if i == ROOT:
            continue
        following[i] = first[parent[i]]
        first[parent[i]] = i
    rank = np.empty(n, np.int32)
    node, count = 0, 0
    while True:
        rank[node] = count
        count += 1
        if first[node] >= 0:
            node = first[node]
            continue
        while node != 0 and following[node] < 0:
            node = parent[node]
        if node == 0:
            return rank
        node = following[node]


@compiled
def _depths(parent, length):  # type: ignore[no-untyped-def]
    depth = np.zeros(len(parent), np.int64)
    for i in range(1, len(parent)):
        depth[i] = depth[parent[i]] + length[i]
    return depth


@compiled
def _levels(parent):  # type: ignore[no-untyped-def]
    level = np.zeros(len(parent), np.int32)
    for i in range(1, len(parent)):
        level[i] = level[parent[i]] + 1
    return level


@compiled
def _subtree_ends(parent):  # type: ignore[no-untyped-def]
    end = np.arange(1, len(parent) + 1).astype(np.int32)
    for i in range(len(parent) - 1, 0, -1):
        end[parent[i]] = max(end[parent[i]], end[i])
    return end


@compiled
def _gather(pool, start, length):  # type: ignore[no-untyped-def]
    tokens = np.empty(length.sum(), np.int32)
    position = 0
    for i in range(len(start)):
        tokens[position : position + length[i]] = pool[start[i] : start[i] + length[i]]
        position += length[i]
    return tokens


@compiled
def _first_fault(parent, depth, tokens):  # type: ignore[no-untyped-def]
    """Return the first node that breaks preorder, or the order or lengths of edges; -1 if none does."""
    if parent[ROOT] != ROOT or depth[ROOT] != 0:
        return ROOT
    newest = np.full(len(parent), -1, np.int32)  # first token on the edge of the latest child
    start = 0
    for i in range(1, len(parent)):
        above = parent[i]
        if not 0 <= above < i:
            return i
        node = i - 1
        while node > above:
            node = parent[node]
        length = depth[i] - depth[above]
        if node != above or not 1 <= length <= len(tokens) - start:
            return i
        if tokens[start] <= newest[above]:
            return i
        newest[above] = tokens[start]
        start += length
    return -1 if start == len(tokens) else len(parent)
