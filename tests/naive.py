"""The paper's simulator once more, slow and plain: token lists, Python dicts, heapq.

Written from the same specification as the compiled kernels but sharing no code with them, so that
tests can compare the two on traces nobody has computed golden results for.
"""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from marconi_core.models.paper import Geometry

Record = tuple[int, int, int]  # hit 0/1, input tokens, skipped tokens


@dataclass(eq=False)
class Node:
    """A node with the tokens of its edge; children by first token (radix) or by tokens (blocks)."""

    edge: list[int] = field(default_factory=list)
    parent: "Node | None" = None
    timestamp: float = 0
    children: dict[Any, "Node"] = field(default_factory=dict)

    def __lt__(self, other: "Node") -> bool:
        return self.timestamp < other.timestamp

    def preorder(self, level: int = 0) -> Iterator[tuple["Node", int]]:
        yield self, level
        for child in self.children.values():
            yield from child.preorder(level + 1)


def common(a: Sequence[int], b: Sequence[int]) -> int:
    """Return the length of the common prefix."""
    length = 0
    for x, y in zip(a, b, strict=False):
        if x != y:
            break
        length += 1
    return length


class NaiveCache:
    """What both caches share: sizes, records, the log, least recently used leaves."""

    def __init__(self, geometry: Geometry, capacity: float) -> None:
        self.geometry = geometry
        self.capacity = capacity
        self.root = Node()
        self.clock = 0
        self.records: list[Record] = []
        self.evictions: list[tuple[int, str, int, int]] = []
        self.first_eviction = 0

    def nodes(self) -> list[Node]:
        return [node for node, _ in self.root.preorder()][1:]

    def size(self) -> int:
        nodes = self.nodes()
        tokens = sum(len(node.edge) for node in nodes)
        return self.geometry.state_bytes * len(nodes) + self.geometry.kv_bytes * tokens

    def final_tree(self) -> list[tuple[int, list[int], int, int]]:
        return [
            (level, node.edge, int(node.timestamp), len(node.children))
            for node, level in self.root.preorder()
            if level > 0
        ]

    def replay(self, requests: Sequence[tuple[list[int], list[int]]]) -> None:
        for prompt, output in requests:
            _, skipped = self.lookup(prompt)
            self.records.append((int(skipped > 0), len(prompt), skipped))
            self.insert(prompt + output)

    def lookup(self, query: list[int]) -> tuple[int, int]:
        raise NotImplementedError

    def insert(self, query: list[int]) -> None:
        raise NotImplementedError

    def evict(self, excess: float) -> None:
        self.clock += 1
        self.first_eviction = self.first_eviction or len(self.records)
        self.make_room(excess)

    def make_room(self, excess: float) -> None:
        leaves = [node for node, _ in self.root.preorder() if not node.children]
        heapq.heapify(leaves)
        freed = 0
        while freed < excess and leaves:
            victim = heapq.heappop(leaves)
            if victim is self.root:
                break
            freed += self.geometry.state_bytes + self.geometry.kv_bytes * len(victim.edge)
            self.log(victim, "l")
            parent = self.delete(victim)
            if not parent.children:
                heapq.heappush(leaves, parent)

    def delete(self, node: Node) -> Node:
        parent = node.parent
        assert parent is not None
        key = next(key for key, child in parent.children.items() if child is node)
        del parent.children[key]
        return parent

    def log(self, victim: Node, kind: str) -> None:
        entry = (len(self.records), kind, len(victim.edge), int(victim.timestamp))
        self.evictions.append(entry)


class NaiveRadixCache(NaiveCache):
    """SGLang+ (`alpha` None) and the oracle (a static alpha)."""

    def __init__(self, geometry: Geometry, capacity: float, alpha: float | None) -> None:
        super().__init__(geometry, capacity)
        self.alpha = alpha

    def lookup(self, query: list[int]) -> tuple[int, int]:
        self.clock += 1
        node, position, skipped, last = self.root, 0, 0, None
        while True:
            if self.alpha is None:
                node.timestamp = self.clock
            if position == len(query) or query[position] not in node.children:
                break
            node = node.children[query[position]]
            matched = common(node.edge, query[position:])
            position += matched
            if matched == len(node.edge):
                skipped += matched
                last = node
        if self.alpha is not None and last is not None:
            last.timestamp = self.clock
        return position, skipped

    def insert(self, query: list[int]) -> None:
        self.clock += 1
        prefix, skipped = self.lookup(query)
        states = 2 if prefix > skipped else 1
        need = states * self.geometry.state_bytes + self.geometry.kv_bytes * (len(query) - prefix)
        excess = self.size() + need - self.capacity
        if excess > 0:
            self.evict(excess)
        node, rest = self.root, query
        while True:
            if self.alpha is None:
                node.timestamp = self.clock
            if not rest:
                return
            child = node.children.get(rest[0])
            if child is None:
                node.children[rest[0]] = Node(rest, node, self.clock)
                if self.alpha is None:
                    node.children[rest[0]].timestamp = self.clock
                return
            matched = common(child.edge, rest)
            if matched == len(child.edge):
                if matched == len(rest):
                    return
                node, rest = child, rest[matched:]
                continue
            upper = Node(child.edge[:matched], node, self.clock)
            node.children[rest[0]] = upper
            child.edge, child.parent = child.edge[matched:], upper
            upper.children[child.edge[0]] = child
            node, rest = upper, rest[matched:]

    def make_room(self, excess: float) -> None:
        if self.alpha is None:
            super().make_room(excess)
            return
        freed = 0
        while freed < excess:
            candidates = [node for node in self.nodes() if len(node.children) <= 1]
            if not candidates:
                return
            scores = self.scores(candidates, self.alpha)
            victim = candidates[scores.index(min(scores))]
            freed += self.geometry.state_bytes
            if not victim.children:
                freed += self.geometry.kv_bytes * len(candidates[-1].edge)
                self.log(victim, "l")
                self.delete(victim)
                continue
            self.log(victim, "i")
            (child,) = victim.children.values()
            parent = victim.parent
            assert parent is not None
            child.edge, child.parent = victim.edge + child.edge, parent
            child.timestamp = max(child.timestamp, victim.timestamp)
            parent.children[child.edge[0]] = child

    def scores(self, candidates: list[Node], alpha: float) -> list[float]:
        efficiency = normalised([self.efficiency(node) for node in candidates])
        recency = normalised([1 / (self.clock - node.timestamp) for node in candidates])
        return [alpha * e + r for e, r in zip(efficiency, recency, strict=True)]

    def efficiency(self, node: Node) -> float:
        edge, total, ancestor = len(node.edge), 0, node
        while ancestor.parent is not None:
            total += len(ancestor.edge)
            ancestor = ancestor.parent
        ssm, attn, mlp, d, n = self.geometry
        before = total - edge

        def attention(tokens: int) -> int:
            return 8 * tokens * d**2 + 4 * tokens**2 * d

        saved = (
            ssm * (12 * edge * d**2 + 16 * edge * d * n + 10 * edge * d)
            + attn * (attention(total) - attention(before))
            + mlp * (16 * total * d**2 - attention(before))
        )
        return saved / (self.geometry.state_bytes + self.geometry.kv_bytes * total)


class NaiveBlockCache(NaiveCache):
    """vLLM+."""

    BLOCK = 32

    def lookup(self, query: list[int]) -> tuple[int, int]:
        self.clock += 1
        node, skipped, count = self.root, 0, 1
        while True:
            node.timestamp = self.clock
            rest = query[skipped:]
            matches = [(common(child.edge, rest), child) for child in node.children.values()]
            whole = [child for matched, child in matches if matched == self.BLOCK]
            if whole:
                node = whole[0]
                skipped += self.BLOCK
                count += 1
                continue
            for matched, child in matches:
                if matched == len(child.edge):
                    return count + 1, skipped + matched
            return count, skipped

    def insert(self, query: list[int]) -> None:
        self.clock += 1
        count, _ = self.lookup(query)
        new = len(query) - self.BLOCK * count
        need = new / self.BLOCK * self.geometry.state_bytes + self.geometry.kv_bytes * new
        excess = self.size() + need - self.capacity
        if excess > 0:
            self.evict(excess)
        node, rest = self.root, query
        while True:
            node.timestamp = self.clock
            matches = [(common(child.edge, rest), child) for child in node.children.values()]
            longest = max((matched for matched, _ in matches), default=0)
            whole = [c for matched, c in matches if matched == len(c.edge) == longest]
            if whole:
                node, rest = whole[0], rest[longest:]
                continue
            if not rest:
                return
            if node is self.root or len(node.edge) == self.BLOCK:
                child = Node(rest[: self.BLOCK], node)
                node.children[object()] = child
                node, rest = child, rest[self.BLOCK :]
                continue
            room = self.BLOCK - len(node.edge)
            parent = self.delete(node)
            node.edge = node.edge + rest[:room]
            parent.children[object()] = node
            rest = rest[room:]


def normalised(values: list[float]) -> list[float]:
    """Min-max normalise; all 1 when all are equal."""
    low, high = min(values), max(values)
    if low == high:
        return [1.0] * len(values)
    return [(value - low) / (high - low) for value in values]
