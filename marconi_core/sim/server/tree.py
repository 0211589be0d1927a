"""SGLang's radix tree for hybrid models (`UnifiedRadixCache`, KVs and SSM states, page size 1).

Only what decides hits and evictions is kept: which tokens have KVs, where states are, what running
requests lock, and when things were last used. Times are SGLang's logical clock, tick for tick,
since the order of evictions depends on it.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Tokens = NDArray[np.int64]

LEVEL = 0.00001
"""A match stamps each ancestor this much earlier than its child."""


class Node:
    """A cached node: an edge of tokens with KVs, and maybe a state at its end.

    Attributes:
        tokens: int64[edge]; empty for the root.
        children: by the first token of their edges.
        state: a state is cached for the node's end.
        kv_locks, state_locks: running requests that use the KVs up to here, or the state.
        on_probation: the state goes when the request that cached it ends.
        last_access: for the eviction of KVs.
        number: the node's number in a `TwoPoolEviction` that follows the tree.
    """

    __slots__ = (
        "children",
        "kv_locks",
        "last_access",
        "number",
        "on_probation",
        "parent",
        "state",
        "state_locks",
        "tokens",
    )

    def __init__(self, tokens: Tokens, parent: "Node | None", last_access: float) -> None:
        self.tokens = tokens
        self.parent = parent
        self.children: dict[int, Node] = {}
        self.state = self.on_probation = False
        self.kv_locks = self.state_locks = 0
        self.last_access = last_access
        self.number = 0


class Match(NamedTuple):
    """What of a sequence is cached.

    Attributes:
        node: deepest matching node with a state, or the root.
        state_tokens: tokens up to that node's end; a hit.
        kv_tokens: tokens with KVs; 0 or more beyond the state, of no use to a hit.
    """

    node: Node
    state_tokens: int
    kv_tokens: int


class Inserted(NamedTuple):
    """What an insertion found.

    Attributes:
        node: at whose end the sequence is.
        had_state: the sequence's end had a state already; the offered one is not taken.
        duplicates: tokens whose KVs were cached already, though the request had computed its own.
    """

    node: Node
    had_state: bool
    duplicates: int


class Follower:
    """Is told of each change of a tree; this one does not care."""

    def leaf_added(self, node: Node) -> None:
        """A leaf without a state was added."""

    def edge_split(self, upper: Node, child: Node) -> None:
        """`upper` took over the first part of `child`'s edge."""

    def leaf_removed(self, node: Node) -> None:
        """A leaf was removed, and its state with it."""

    def state_added(self, node: Node) -> None:
        """A state was cached at the node's end."""

    def state_removed(self, node: Node) -> None:
        """The node's state was dropped; the node stays."""

    def kvs_locked(self, node: Node, change_by: int) -> None:
        """One request more (+1) or less (-1) uses the KVs up to the node's end."""

    def state_locked(self, node: Node) -> None:
        """The number of requests that use the node's state changed."""


class ServerTree:
    """The tree, and the two orders in which stock SGLang evicts.

    Attributes:
        root: the empty prefix; never evicted.
        states: nodes with a state, the least recently used first (a dict for its order).
        leaves: nodes without children that nothing locks.
        evictable_tokens: cached tokens whose KVs nothing locks.
    """

    def __init__(self, follower: Follower | None = None) -> None:
        self._follower = follower or Follower()
        self._clock = 0.0
        self.root = Node(np.empty(0, np.int64), None, 0.0)
        self.states: dict[Node, None] = {}
        self.leaves: set[Node] = set()
        self.evictable_tokens = 0

    def match(self, sequence: Tokens) -> Match:
        """Find the longest cached prefix; split the edge on which it ends; mark it as used."""
        node = best = self.root
        kv_tokens = state_tokens = 0
        while kv_tokens < len(sequence):
            child = node.children.get(int(sequence[kv_tokens]))
            if child is None:
                break
            common = common_length(child.tokens, sequence[kv_tokens:])
            whole = common == len(child.tokens)
            node = child if whole else self._split(child, common)
            kv_tokens += common
            if node.state:
                best, state_tokens = node, kv_tokens
            if not whole:
                break
        if len(sequence):
            if best.state:
                self._used(best)
            self._stamp_path(best)
        return Match(best, state_tokens, kv_tokens)

    def insert(self, sequence: Tokens, own_from: int) -> Inserted:
        """Cache a sequence's KVs and the state at its end.

        Args:
            sequence: if it is empty, nothing is cached, and the state not taken.
            own_from: the request computed the KVs from this position on; before, it used the tree's.
        """
        node, at, duplicates = self.root, 0, 0
        node.last_access = self._tick()
        if not len(sequence):
            return Inserted(node, True, 0)
        while at < len(sequence):
            child = node.children.get(int(sequence[at]))
            if child is None:
                break
            child.last_access = self._tick()
            common = common_length(child.tokens, sequence[at:])
            node = child if common == len(child.tokens) else self._split(child, common)
            duplicates += max(0, at + common - max(at, own_from))
            at += common
        if at < len(sequence):
            node = self._add_leaf(node, sequence[at:])
        elif node.state:
            self._used(node)
            node.last_access = self._tick()
            return Inserted(node, True, duplicates)
        else:
            node.last_access = self._tick()
        node.state = True
        self.states[node] = None
        self._follower.state_added(node)
        return Inserted(node, False, duplicates)

    def lock(self, node: Node) -> None:
        """A request starts to use a node: its state, and all KVs up to its end."""
        if node.state:
            node.state_locks += 1
            self._follower.state_locked(node)
        self._lock_kvs(node, 1)

    def unlock(self, node: Node) -> None:
        """A request stops using a node."""
        if node.state_locks:
            node.state_locks -= 1
            self._follower.state_locked(node)
        self._lock_kvs(node, -1)

    def drop_leaf(self, node: Node) -> tuple[int, int]:
        """Evict a leaf; return the tokens and states freed."""
        parent = node.parent
        assert parent is not None and not node.children
        freed = len(node.tokens), int(node.state)
        self.evictable_tokens -= freed[0]
        node.state = False
        self.states.pop(node, None)
        del parent.children[int(node.tokens[0])]
        self.leaves.discard(node)
        self._review_leaf(parent)
        self._follower.leaf_removed(node)
        return freed

    def drop_state(self, node: Node) -> None:
        """Evict a node's state only."""
        node.state = False
        del self.states[node]
        self._follower.state_removed(node)

    def nodes(self) -> Iterator[tuple[tuple[int, ...], Node]]:
        """Yield each node with the tokens from the root to its end."""
        pending: list[tuple[tuple[int, ...], Node]] = [((), self.root)]
        while pending:
            tokens, node = pending.pop()
            if node is not self.root:
                tokens = (*tokens, *node.tokens.tolist())
                yield tokens, node
            pending.extend((tokens, child) for child in node.children.values())

    def copy(self, follower: Follower | None = None) -> "tuple[ServerTree, dict[Node, Node]]":
        """Return an independent tree and its nodes by this one's; `follower` is told of its changes."""
        twin = ServerTree(follower)
        twin._clock = self._clock
        twins = {self.root: twin.root}
        twin.root.last_access = self.root.last_access
        pending = [self.root]
        while pending:
            node = pending.pop()
            for token, child in node.children.items():
                made = Node(child.tokens, twins[node], child.last_access)  # edges never change
                made.state, made.on_probation = child.state, child.on_probation
                made.kv_locks, made.state_locks = child.kv_locks, child.state_locks
                made.number = child.number
                twins[node].children[token] = twins[child] = made
                pending.append(child)
        twin.states = {twins[node]: None for node in self.states}
        twin.leaves = {twins[node] for node in self.leaves}
        twin.evictable_tokens = self.evictable_tokens
        return twin, twins

    def _tick(self) -> float:
        self._clock += 1.0
        return self._clock

    def _used(self, node: Node) -> None:
        """Make a state the most recently used one."""
        del self.states[node]
        self.states[node] = None

    def _stamp_path(self, node: Node | None) -> None:
        time = self._tick()
        while node is not None:
            node.last_access = time
            time -= LEVEL
            node = node.parent

    def _add_leaf(self, parent: Node, tokens: Tokens) -> Node:
        node = Node(tokens.copy(), parent, self._tick())
        self._tick()  # SGLang stamps the creation too
        parent.children[int(tokens[0])] = node
        self.leaves.add(node)
        self.leaves.discard(parent)
        self.evictable_tokens += len(tokens)
        self._follower.leaf_added(node)
        return node

    def _split(self, child: Node, length: int) -> Node:
        parent = child.parent
        assert parent is not None
        upper = Node(child.tokens[:length].copy(), parent, self._tick())
        self._tick()
        upper.kv_locks = child.kv_locks
        parent.children[int(upper.tokens[0])] = upper
        child.tokens = child.tokens[length:].copy()
        child.parent = upper
        upper.children[int(child.tokens[0])] = child
        if child.state:  # SGLang takes it out of its list and puts it back at the fresh end
            self._used(child)
        child.last_access = self._tick()
        self._follower.edge_split(upper, child)
        return upper

    def _lock_kvs(self, node: Node, change_by: int) -> None:
        at = node
        while at.parent is not None:
            was_free = not at.kv_locks
            at.kv_locks += change_by
            self.evictable_tokens += len(at.tokens) * ((not at.kv_locks) - was_free)
            at = at.parent
        self._review_leaf(node)
        if node is not self.root:
            self._follower.kvs_locked(node, change_by)

    def _review_leaf(self, node: Node) -> None:
        if is_free_leaf(node):
            self.leaves.add(node)
        else:
            self.leaves.discard(node)


def is_free_leaf(node: Node) -> bool:
    """Tell whether a node is a leaf that nothing locks."""
    return not (node.parent is None or node.children or node.kv_locks or node.state_locks)


def common_length(one: Tokens, other: Tokens) -> int:
    """Return how many tokens two sequences have in common at their start; neither is empty."""
    shorter = min(len(one), len(other))
    differs = one[:shorter] != other[:shorter]
    first = int(differs.argmax())
    return first if differs[first] else shorter
