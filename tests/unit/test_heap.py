"""The heap of the oldest nodes against heapq with all of them, where many tie."""

import heapq
from dataclasses import dataclass

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from marconi_core.policies.siblings import ABSENT
from marconi_core.sim.heap import clear, heapify, pop, push
from marconi_core.sim.radix_tree import empty_cache


@dataclass(frozen=True)
class Leaf:
    """What heapq sorts; as in the reference, equal ages are left to it."""

    name: int
    age: int

    def __lt__(self, other: "Leaf") -> bool:
        return self.age < other.age


@settings(max_examples=500, deadline=None)
@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=70),
    st.integers(0, 9),
    st.lists(st.none() | st.integers(0, 9), max_size=70),
)
def test_the_oldest_leave_in_the_order_of_heapq(
    ages: list[int], reach: int, steps: list[int | None]
) -> None:
    """Pop, or push something of the given age that is not older than what was popped last."""
    leaves = [Leaf(name, age) for name, age in enumerate(ages)]
    cache = empty_cache(len(ages) + len(steps))
    cache["timestamp"][: len(ages)] = ages
    places = np.array([leaf.name for leaf in leaves if leaf.age <= reach], np.int32)
    heap = np.full(len(cache), ABSENT, np.int32)
    heap[places] = places

    heapq.heapify(leaves)
    heapify(heap, len(leaves), places, cache)
    popped = 0
    for name, step in enumerate(steps, start=len(ages)):
        if step is not None:
            added = Leaf(name, max(step, popped))
            cache["timestamp"][name] = added.age
            push(heap, len(leaves), name, cache)
            heapq.heappush(leaves, added)
        elif leaves and leaves[0].age <= reach:
            popped = leaves[0].age
            assert pop(heap, len(leaves), cache) == heapq.heappop(leaves).name
    clear(heap, len(leaves), cache)
    assert (heap == ABSENT).all()
