"""The paper's simulator once more, slow and plain: token lists, Python dicts, heapq.

Written from the same specification as the compiled kernels but sharing no code with them, so that
tests can compare the two on traces nobody has computed golden results for.
"""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from marconi_core.models.paper import Geometry
from marconi_core.policies.corrections import PAPER, Corrections

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

    def __init__(
        self, geometry: Geometry, capacity: float, corrections: Corrections = PAPER
    ) -> None:
        self.geometry = geometry
        self.capacity = capacity
        self.corrections = corrections
        d, n = geometry.d, geometry.n
        ssm_state = 2 * d * n * (2 if corrections.expanded_state else 1)
        self.state_bytes = geometry.num_ssm_layers * (ssm_state + 8 * (2 * d + 2 * n))
        self.root = Node()
        self.clock = 0
        self.records: list[Record] = []
        self.evictions: list[tuple[int, str, int, int]] = []
        self.first_eviction = 0

    def nodes(self) -> list[Node]:
        return [node for node, _ in self.root.preorder()][1:]

    def size(self) -> float:
        nodes = self.nodes()
        tokens = sum(len(node.edge) for node in nodes)
        return self.bytes(len(nodes), tokens)

    def bytes(self, states: float, tokens: int) -> float:
        return self.state_bytes * states + self.geometry.kv_bytes * tokens

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

    def need(self, query: list[int]) -> float:
        """Bytes that the insertion is expected to take; nothing is stamped."""
        raise NotImplementedError

    def admit(self, query: list[int], alone: float) -> bool:
        """Make room; tell whether to insert. `alone` is what the sequence takes in an empty cache."""
        if self.corrections.capacity and alone > self.capacity:
            return False
        while (excess := self.size() + self.need(query) - self.capacity) > 0:
            before = len(self.evictions)
            self.evict(excess)
            if not self.corrections.capacity:
                return True
            if len(self.evictions) == before:
                return False
        return True

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
            freed += self.bytes(1, len(victim.edge))
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

    def __init__(
        self,
        geometry: Geometry,
        capacity: float,
        alpha: float | None,
        corrections: Corrections = PAPER,
    ) -> None:
        super().__init__(geometry, capacity, corrections)
        self.alpha = alpha

    def match(self, query: list[int]) -> tuple[int, int, list[Node], Node | None]:
        """Return tokens matched, those on whole edges, nodes entered, last whole one."""
        position, skipped, entered, last = 0, 0, [self.root], None
        while position < len(query) and query[position] in entered[-1].children:
            node = entered[-1].children[query[position]]
            entered.append(node)
            matched = common(node.edge, query[position:])
            position += matched
            if matched == len(node.edge):
                skipped += matched
                last = node
            elif self.corrections.whole_edges:
                break
        return position, skipped, entered, last

    def lookup(self, query: list[int]) -> tuple[int, int]:
        self.clock += 1
        position, skipped, entered, last = self.match(query)
        if self.alpha is None:
            for node in entered:
                node.timestamp = self.clock
        elif last is not None:
            last.timestamp = self.clock
        return position, skipped

    def need(self, query: list[int]) -> float:
        prefix, skipped, _, _ = self.match(query)
        states = 2 if prefix > skipped else 1
        if self.corrections.capacity and prefix == len(query):
            states -= 1
        return self.bytes(states, len(query) - prefix)

    def insert(self, query: list[int]) -> None:
        self.clock += 1
        self.lookup(query)
        if not self.admit(query, self.bytes(1, len(query))):
            return
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
            freed += self.state_bytes
            if not victim.children:
                counted = victim if self.corrections.own_bytes else candidates[-1]
                freed += self.geometry.kv_bytes * len(counted.edge)
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

        corrected = self.corrections.mlp_of_parent
        parent = 16 * before * d**2 if corrected else attention(before)
        saved = (
            ssm * (12 * edge * d**2 + 16 * edge * d * n + 10 * edge * d)
            + attn * (attention(total) - attention(before))
            + mlp * (16 * total * d**2 - parent)
        )
        return saved / self.bytes(1, edge if self.corrections.own_kvs else total)


class NaiveBlockCache(NaiveCache):
    """vLLM+."""

    BLOCK = 32

    def match(self, query: list[int]) -> tuple[int, int, list[Node]]:
        """Return blocks matched, tokens matched, and the full blocks entered from the root."""
        entered, skipped = [self.root], 0
        while True:
            rest = query[skipped:]
            matches = [(common(child.edge, rest), child) for child in entered[-1].children.values()]
            whole = [child for matched, child in matches if matched == self.BLOCK]
            if whole:
                entered.append(whole[0])
                skipped += self.BLOCK
                continue
            for matched, child in matches:
                if matched == len(child.edge):
                    return len(entered), skipped + matched, entered
            return len(entered) - 1, skipped, entered

    def lookup(self, query: list[int]) -> tuple[int, int]:
        self.clock += 1
        blocks, skipped, entered = self.match(query)
        for node in entered:
            node.timestamp = self.clock
        return blocks, skipped

    def need(self, query: list[int]) -> float:
        blocks, skipped, _ = self.match(query)
        if self.corrections.capacity:
            return self.bytes(-(-len(query) // self.BLOCK) - blocks, len(query) - skipped)
        new = len(query) - self.BLOCK * (blocks + 1)  # the root counts
        return self.bytes(new / self.BLOCK, new)

    def insert(self, query: list[int]) -> None:
        self.clock += 1
        self.lookup(query)
        if not self.admit(query, self.bytes(-(-len(query) // self.BLOCK), len(query))):
            return
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
