"""What the simulated server admits and evicts: stock SGLang's rules, or Marconi's."""

import copy
import heapq
from dataclasses import dataclass
from typing import Literal

from marconi_core.models.cost import CostModel
from marconi_core.policies.two_pool import (
    BRANCH_GAIN,
    EvictionSettings,
    Objective,
    TwoPoolEviction,
)
from marconi_core.sim.server.tree import Follower, Node, ServerTree, is_free_leaf


@dataclass(frozen=True)
class ServerPolicy:
    """A policy of the server.

    Attributes:
        admission: `every_chunk` keeps a state at each end of a prefill chunk and of the prompt, as
            stock SGLang; `branch_points` only where a prompt parts from what is cached, as the
            paper; `by_pressure` is `branch_points`, but `every_chunk` while states are the more
            plentiful pool, as the plug-in. All keep the state after the last decoded token.
        eviction: Marconi's, or None for SGLang's least recently used.
        probation: also keep the states of `every_chunk` until their request ends, and those that
            another request has used by then for good; what the plug-in does on a server that runs
            several requests at a time, so that they find each other.
        branch_gain: see `branch_point`.
    """

    admission: Literal["every_chunk", "branch_points", "by_pressure"]
    eviction: EvictionSettings | None
    probation: bool = False
    branch_gain: int = BRANCH_GAIN


STOCK = ServerPolicy("every_chunk", None)
ADMISSION_ONLY = ServerPolicy("by_pressure", None)


def marconi(
    alpha: float = 0.0,
    other_pool: float = 1.0,
    objective: Objective = "marconi",
    branch_gain: int = BRANCH_GAIN,
) -> ServerPolicy:
    """Return Marconi's admission and eviction; see `EvictionSettings` and `branch_point`."""
    eviction = EvictionSettings(objective, alpha, other_pool)
    return ServerPolicy("by_pressure", eviction, branch_gain=branch_gain)


class StockEviction:
    """SGLang's: KVs from the least recently used leaf, states from the least recently used."""

    def __init__(self) -> None:
        self.tree = ServerTree()

    def copy(self) -> "StockEviction":
        """Return an independent cache with the same content."""
        twin = type(self)()
        twin.tree, _ = self.tree.copy()
        return twin

    def use(self, node: Node) -> None:
        """A request is served from a node."""

    def evict(self, tokens: int, states: int) -> tuple[int, int]:
        """Evict until so much is freed, if there is as much; return what is."""
        tree = self.tree
        freed_tokens = freed_states = 0
        heap = [(node.last_access, id(node), node) for node in tree.leaves] if tokens else []
        heapq.heapify(heap)
        while freed_tokens < tokens and heap:
            node = heapq.heappop(heap)[2]
            parent = node.parent
            assert parent is not None
            more_tokens, more_states = tree.drop_leaf(node)
            freed_tokens, freed_states = freed_tokens + more_tokens, freed_states + more_states
            if parent in tree.leaves:
                heapq.heappush(heap, (parent.last_access, id(parent), parent))
        for node in list(tree.states) if freed_states < states else ():
            if freed_states >= states:
                break
            if node.state_locks:
                continue
            if is_free_leaf(node):
                more_tokens, more_states = tree.drop_leaf(node)
                freed_tokens, freed_states = freed_tokens + more_tokens, freed_states + more_states
            else:
                tree.drop_state(node)
                freed_states += 1
        return freed_tokens, freed_states


class MarconiEviction(Follower):
    """Marconi's, by `TwoPoolEviction`, which follows the tree."""

    def __init__(self, costs: CostModel, settings: EvictionSettings) -> None:
        self.two_pool = TwoPoolEviction(costs, settings)
        self.tree = ServerTree(self)
        self._nodes: dict[int, Node] = {}

    def copy(self) -> "MarconiEviction":
        """Return an independent cache with the same content."""
        twin = copy.copy(self)
        twin.two_pool = self.two_pool.copy()
        twin.tree, twins = self.tree.copy(twin)
        twin._nodes = {number: twins[node] for number, node in self._nodes.items()}
        return twin

    def use(self, node: Node) -> None:
        """A request is served from a node."""
        self.two_pool.use(node.number)

    def evict(self, tokens: int, states: int) -> tuple[int, int]:
        """Evict until so much is freed, if there is as much; return what is."""
        freed = {"kvs": 0, "states": 0}

        def drop_leaf(number: int) -> None:
            more_tokens, more_states = self.tree.drop_leaf(self._nodes[number])
            freed["kvs"] += more_tokens
            freed["states"] += more_states

        def drop_state(number: int) -> None:
            self.tree.drop_state(self._nodes[number])
            freed["states"] += 1

        two_pool = self.two_pool
        two_pool.evict("kvs", lambda: freed["kvs"] >= tokens, drop_leaf, drop_state)
        two_pool.evict("states", lambda: freed["states"] >= states, drop_leaf, drop_state)
        return freed["kvs"], freed["states"]

    def leaf_added(self, node: Node) -> None:
        assert node.parent is not None
        node.number = self.two_pool.add_leaf(node.parent.number, len(node.tokens))
        self._nodes[node.number] = node

    def edge_split(self, upper: Node, child: Node) -> None:
        upper.number = self.two_pool.split(child.number, len(upper.tokens))
        self._nodes[upper.number] = upper

    def leaf_removed(self, node: Node) -> None:
        self.two_pool.remove_leaf(node.number)
        del self._nodes[node.number]

    def state_added(self, node: Node) -> None:
        self.two_pool.add_state(node.number)

    def state_removed(self, node: Node) -> None:
        self.two_pool.remove_state(node.number)

    def kvs_locked(self, node: Node, change_by: int) -> None:
        self.two_pool.lock_kvs(node.number, change_by)

    def state_locked(self, node: Node) -> None:
        self.two_pool.lock_state(node.number, node.state_locks)
