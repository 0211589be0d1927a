"""Times an eviction decision of a server at 1,000 to 30,000 cached nodes.

    .venv/bin/python benchmarks/two_pool.py

The tree is random: conversations of several turns from some hundred system prompts. Each decision
evicts one node and is followed by what a server does to make the room needed: a hit, a new turn, a
lock taken and released. Times are wall-clock microseconds of one core, compiled code warm.
"""

import platform
import random
import time

from marconi_core.models import MODELS
from marconi_core.models.paper import PaperModel
from marconi_core.policies.two_pool import (
    ROOT,
    EvictionSettings,
    Pool,
    TwoPoolEviction,
)
from marconi_core.provenance import versions

SIZES = (1_000, 3_000, 10_000, 30_000)
ALPHAS = (0.0, 1.0)
DECISIONS = 2_000
COSTS = PaperModel(MODELS["nemotron_h_8b"])


class RandomServer:
    """A cached tree of a given number of nodes, and its nodes that may be extended."""

    def __init__(self, nodes: int, alpha: float) -> None:
        self.random = random.Random(0)
        self.policy = TwoPoolEviction(COSTS, EvictionSettings("marconi", alpha))
        self.parents: list[int] = []
        self.place: dict[int, int] = {}
        self.evicted = 0
        while self.policy.cached_nodes < nodes:
            self.turn()

    def turn(self) -> None:
        """A conversation starts or goes on by one turn, and ends with a cached state."""
        parent = ROOT
        if self.parents and self.random.random() < 0.8:
            parent = self.random.choice(self.parents)
        node = self.policy.add_leaf(parent, self.random.randint(20, 2_000))
        self.policy.add_state(node)
        self.place[node] = len(self.parents)
        self.parents.append(node)

    def hit(self) -> None:
        """A request uses a random node: it is locked, stamped and released."""
        node = self.random.choice(self.parents)
        self.policy.use(node)
        for locks in (1, 0):
            self.policy.lock_kvs(node, 2 * locks - 1)
            self.policy.lock_state(node, locks)

    def evict(self, pool: Pool) -> None:
        goal = self.evicted + 1
        self.policy.evict(pool, lambda: self.evicted >= goal, self.drop_leaf, self.drop_state)

    def drop_leaf(self, node: int) -> None:
        self.policy.remove_leaf(node)
        self.evicted += 1
        if (place := self.place.pop(node, None)) is not None:
            last = self.parents.pop()
            if last != node:
                self.parents[place] = last
                self.place[last] = place

    def drop_state(self, node: int) -> None:
        self.policy.remove_state(node)
        self.evicted += 1


def main() -> None:
    print(f"{platform.machine()}, {', '.join(f'{k} {v}' for k, v in versions().items())}\n")
    print("| nodes | alpha | short pool | decision, us | bookkeeping of a request, us |")
    print("|---|---|---|---|---|")
    for size in SIZES:
        for alpha in ALPHAS:
            for pool in ("states", "kvs"):
                server = RandomServer(size, alpha)
                deciding = keeping = 0.0
                for step in range(DECISIONS + 50):
                    start = time.perf_counter()
                    server.evict(pool)
                    decided = time.perf_counter()
                    server.hit()
                    server.turn()
                    kept = time.perf_counter()
                    if step >= 50:  # the first calls compile or load
                        deciding += decided - start
                        keeping += kept - decided
                print(
                    f"| {size:,} | {alpha:g} | {pool} | {deciding / DECISIONS * 1e6:.0f} "
                    f"| {keeping / DECISIONS * 1e6:.0f} |"
                )


if __name__ == "__main__":
    main()
