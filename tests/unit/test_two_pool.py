"""Two-pool eviction against a naive model that scores every node anew, and its edges."""

import random
import subprocess
import sys
from dataclasses import dataclass, field

import pytest

from marconi_core.errors import PolicyError
from marconi_core.models import MODELS
from marconi_core.models.paper import PaperModel
from marconi_core.policies.two_pool import (
    ROOT,
    EvictionSettings,
    Pool,
    TwoPoolEviction,
    admits,
    branch_point,
    states_to_spare,
)
from tests.naive import normalised

COSTS = PaperModel(MODELS["nemotron_h_8b"])


@dataclass
class Node:
    """A cached node of the naive model."""

    end: int
    parent: "Node | None"
    serial: int
    children: list["Node"] = field(default_factory=list)
    state: bool = False
    used: int = 0
    kv_locks: int = 0
    state_locks: int = 0

    def free_leaf(self) -> bool:
        return bool(
            self.parent and not self.children and not self.kv_locks and not self.state_locks
        )


class NaivePolicy:
    """Scores all nodes at each decision, straight from the definitions."""

    def __init__(self, settings: EvictionSettings) -> None:
        self.settings = settings
        self.root = Node(0, None, 0)
        self.made = 0
        self.clock = 0

    def nodes(self) -> list[Node]:
        found, pending = [], [self.root]
        while pending:
            found.append(node := pending.pop())
            pending.extend(node.children)
        return found[1:]

    def flops(self, tokens: int) -> float:
        return tokens if self.settings.objective == "seglen" else COSTS.flops(tokens)

    def gain(self, node: Node) -> float:
        if not node.state:
            return 0.0
        above = node.parent
        assert above
        while above.parent and not above.state:
            above = above.parent
        return self.flops(node.end) - self.flops(above.end)

    def freed_tokens(self, node: Node) -> int:
        if not node.free_leaf():
            return 0
        above = node.parent
        assert above
        while (
            above.parent
            and len(above.children) == 1
            and not (above.state or above.kv_locks or above.state_locks)
        ):
            above = above.parent
        return node.end - above.end

    def efficiency(self, node: Node, pool: Pool) -> float:
        if self.settings.objective == "seglen":
            return self.gain(node)
        tokens = self.freed_tokens(node) * COSTS.kv_bytes_per_token
        state = node.state * COSTS.state_bytes
        short, other = (state, tokens) if pool == "states" else (tokens, state)
        return self.gain(node) / (short + self.settings.other_pool * other)

    def victim(self, pool: Pool) -> Node | None:
        if pool == "states":
            states = [n for n in self.nodes() if n.state and not n.state_locks]
            found = [n for n in states if len(n.children) <= 1]
            if not found:
                return min(states, key=lambda n: (n.used, n.serial), default=None)
        else:
            found = [n for n in self.nodes() if n.free_leaf()]
        if not found:
            return None
        alpha = 0.0 if self.settings.objective == "lru" else self.settings.alpha
        worth = normalised([self.efficiency(n, pool) for n in found])
        recency = normalised([1 / (self.clock + 1 - n.used) for n in found])
        scores = [
            (alpha * e + r, n.used, n.serial) for e, r, n in zip(worth, recency, found, strict=True)
        ]
        return found[scores.index(min(scores))]


class Pair:
    """Applies every event to both and compares every decision."""

    def __init__(self, settings: EvictionSettings) -> None:
        self.real, self.naive = TwoPoolEviction(COSTS, settings), NaivePolicy(settings)
        self.number = {0: ROOT}  # of the real node, by the naive node's serial
        self.by_number = {ROOT: self.naive.root}

    def _made(self, number: int, end: int, parent: Node) -> Node:
        self.naive.made += 1
        node = Node(end, parent, self.naive.made)
        parent.children.append(node)
        self.number[node.serial] = number
        self.by_number[number] = node
        return node

    def add_leaf(self, parent: Node, tokens: int) -> Node:
        number = self.real.add_leaf(self.number[parent.serial], tokens)
        return self._made(number, parent.end + tokens, parent)

    def split(self, child: Node, tokens: int) -> None:
        parent = child.parent
        assert parent
        number = self.real.split(self.number[child.serial], tokens)
        parent.children.remove(child)
        upper = self._made(number, parent.end + tokens, parent)
        upper.kv_locks = child.kv_locks
        child.parent = upper
        upper.children.append(child)

    def use(self, node: Node) -> None:
        self.real.use(self.number[node.serial])
        self.naive.clock += 1
        node.used = self.naive.clock

    def set_state(self, node: Node, state: bool) -> None:
        number = self.number[node.serial]
        if state:
            self.real.add_state(number)
            self.naive.clock += 1
            node.used = self.naive.clock
        else:
            self.real.remove_state(number)
        node.state = state

    def lock(self, node: Node, by: int) -> None:
        self.real.lock_kvs(self.number[node.serial], by)
        if node.state or by < 0:
            node.state_locks += by
            self.real.lock_state(self.number[node.serial], node.state_locks)
        at: Node | None = node
        while at and at.parent:
            at.kv_locks += by
            at = at.parent

    def evict(self, pool: Pool) -> None:
        """Evict one node."""
        done: list[bool] = []
        expected = self.naive.victim(pool)

        def drop_leaf(number: int) -> None:
            node = self.by_number[number]
            assert node.free_leaf()
            assert node is expected if not done else not node.state
            self.real.remove_leaf(number)
            assert node.parent
            node.parent.children.remove(node)
            done.append(True)

        def drop_state(number: int) -> None:
            assert self.by_number[number] is expected and not done
            self.set_state(self.by_number[number], False)
            done.append(True)

        self.real.evict(pool, lambda: bool(done), drop_leaf, drop_state)
        assert bool(done) == (expected is not None)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "settings",
    [
        EvictionSettings("marconi", 0.0),
        EvictionSettings("marconi", 1.0, 1.0),
        EvictionSettings("marconi", 0.7, 0.0),
        EvictionSettings("marconi", 2.0, 0.3),
        EvictionSettings("seglen", 0.85),
        EvictionSettings("lru", 1.0),
    ],
    ids=str,
)
def test_decisions_equal_those_of_scoring_everything(settings: EvictionSettings, seed: int) -> None:
    rng, pair, locked = random.Random(seed), Pair(settings), []
    for _ in range(500):
        nodes = pair.naive.nodes()
        node = rng.choice(nodes) if nodes else None
        match rng.choice("aaaaassssuullxeek"):
            case "a":
                parent = rng.choice([pair.naive.root, *nodes[-30:]])
                leaf = pair.add_leaf(parent, rng.randint(1, 3000))
                if rng.random() < 0.9:
                    pair.set_state(leaf, True)
            case "s" if node and node.parent and node.end - node.parent.end > 1:
                pair.split(node, rng.randint(1, node.end - node.parent.end - 1))
            case "u" if node and node.state:
                pair.use(node)
            case "l" if node and node.state and len(locked) < 5:
                pair.lock(node, 1)
                locked.append(node)
            case "x" if locked:
                pair.lock(locked.pop(rng.randrange(len(locked))), -1)
            case "k" if node and not node.state:
                pair.set_state(node, True)
            case "e":
                pair.evict(rng.choice(("states", "kvs")))
    for held in locked:
        pair.lock(held, -1)
    assert pair.real.cached_nodes == len(pair.naive.nodes())
    assert pair.real.cached_states == sum(n.state for n in pair.naive.nodes())
    while pair.real.cached_nodes:
        pair.evict("kvs")


def test_a_tree_grows_beyond_its_initial_capacity() -> None:
    pair = Pair(EvictionSettings("marconi", 1.0))
    leaves = [pair.add_leaf(pair.naive.root, 10 + i % 7) for i in range(1500)]
    for leaf in leaves[::2]:
        pair.set_state(leaf, True)
    for pool in ("states", "kvs") * 20:
        pair.evict(pool)


@pytest.mark.parametrize(("other_pool", "first"), [(0.0, "shallow"), (1.0, "deep")])
def test_a_new_lambda_revalues_what_is_cached(other_pool: float, first: str) -> None:
    """A short edge deep in the tree saves most per KV byte; charged for its state, it saves least."""
    policy = TwoPoolEviction(COSTS, EvictionSettings("marconi", 1e6, 0.5))
    trunk = policy.add_leaf(ROOT, 20_000)
    leaves = {policy.add_leaf(trunk, 10): "deep", policy.add_leaf(ROOT, 9_000): "shallow"}
    for node in (trunk, *leaves):
        policy.add_state(node)
    policy.configure(EvictionSettings("marconi", 1e6, other_pool))
    gone: list[int] = []

    def drop_leaf(node: int) -> None:
        policy.remove_leaf(node)
        gone.append(node)

    policy.evict("kvs", lambda: bool(gone), drop_leaf, policy.remove_state)
    assert [leaves[node] for node in gone] == [first]


def test_nothing_is_compiled_after_warming_up() -> None:
    script = """
from marconi_core.policies import cached_tree, candidates, two_pool
from tests.unit.test_two_pool import EvictionSettings, test_decisions_equal_those_of_scoring_everything as serve

def compiled():
    functions = {**vars(two_pool), **vars(cached_tree), **vars(candidates)}.values()
    return sum(len(f.signatures) for f in functions if hasattr(f, "signatures"))

two_pool.warm_up()
before = compiled()
serve(EvictionSettings("marconi", 1.0, 0.5), 0)
assert compiled() == before > 10
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_branch_points_and_admission() -> None:
    assert branch_point(kv_match=40, state_match=0) == 40
    assert branch_point(kv_match=40, state_match=40) is None
    assert branch_point(kv_match=0, state_match=0) is None
    assert branch_point(kv_match=40, state_match=30, least_gain=10) == 40
    assert branch_point(kv_match=40, state_match=31, least_gain=10) is None
    assert admits(40, 40) and not admits(39, 40) and not admits(40, None)


@pytest.mark.parametrize(
    ("states", "tokens", "spare"),
    [
        (30, 500, True),
        (20, 500, False),
        (21, 500, True),
        (40, 1000, False),
        (4, 0, True),
        (3, 0, False),
    ],
)
def test_states_to_spare_compares_shares(states: int, tokens: int, spare: bool) -> None:
    assert states_to_spare(states, 40, tokens, 1000) is spare


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"objective": "lfu"}, "unknown eviction objective 'lfu'; choose one of: marconi, seglen"),
        ({"alpha": -0.5}, "alpha is -0.5; it must be a number >= 0"),
        ({"alpha": float("inf")}, "alpha is inf"),
        ({"other_pool": 1.5}, "lambda is 1.5; it must be between 0 and 1"),
    ],
)
def test_impossible_settings_are_named(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(PolicyError, match=message.replace("(", r"\(")):
        EvictionSettings(**wrong)


def test_the_objective_of_a_running_cache_is_fixed() -> None:
    policy = TwoPoolEviction(COSTS)
    with pytest.raises(PolicyError, match="from 'marconi' to 'seglen'; restart it"):
        policy.configure(EvictionSettings("seglen"))
