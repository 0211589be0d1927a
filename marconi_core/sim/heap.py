"""Python's heapq on cached nodes ordered by timestamp, with only the oldest in it.

Timestamps tie, and then the reference's eviction order is whatever heapq makes of all leaves. But
nodes that are later than every one that an eviction may reach cannot change how those move: each
step compares, and a later node gives way whichever it is. So a place is either one of the oldest
nodes or ABSENT, which stands for some later one, and only places on the way from the oldest to the
top are visited. All places are ABSENT before and after an eviction.
"""

import numpy as np

from marconi_core.jit import compiled, in_place
from marconi_core.policies.siblings import ABSENT
from marconi_core.sim.records import Ints, Records


@compiled
def heapify(heap: Ints, size: int, places: Ints, cache: Records) -> None:
    """Make ``heap[:size]``, in which only `places` are not ABSENT, a heap."""
    above = np.empty(len(places) * 32, np.int32)  # more levels than a heap can have
    count = 0
    for place in places:
        while place > 0:
            place = (place - 1) >> 1
            above[count] = place
            count += 1
    previous = ABSENT
    for place in np.sort(above[:count])[::-1]:
        if place != previous:
            _sink(heap, size, place, cache)
        previous = place


@in_place
def pop(heap: Ints, size: int, cache: Records) -> int:
    """Return the least recently used node; the heap is then ``heap[: size - 1]``."""
    least, last = heap[0], heap[size - 1]
    heap[size - 1] = ABSENT
    if size > 1:
        heap[0] = last
        _sink(heap, size - 1, 0, cache)
    return least


@in_place
def push(heap: Ints, size: int, node: int, cache: Records) -> None:
    """Add a node, later than the oldest or not; the heap is then ``heap[: size + 1]``."""
    place = size
    while place > 0:
        parent = (place - 1) >> 1
        if not _earlier(node, heap[parent], cache):
            break
        heap[place] = heap[parent]
        place = parent
    heap[place] = node


@in_place
def clear(heap: Ints, size: int, cache: Records) -> None:
    """Make all places ABSENT."""
    while heap[0] != ABSENT:
        pop(heap, size, cache)
        size -= 1


@in_place
def _sink(heap: Ints, size: int, place: int, cache: Records) -> None:
    """Move ``heap[place]`` down until no child is as early; of equal children the right one rises.

    heapq moves it all the way down, and from there up past what is later: to the same place.
    """
    item = heap[place]
    while True:
        child = 2 * place + 1
        if child + 1 < size and not _earlier(heap[child], heap[child + 1], cache):
            child += 1
        if child >= size or heap[child] == ABSENT or _earlier(item, heap[child], cache):
            break
        heap[place] = heap[child]
        place = child
    heap[place] = item


@in_place
def _earlier(one: int, other: int, cache: Records) -> bool:
    """Tell whether `one` was used before `other`."""
    if one == ABSENT or other == ABSENT:
        return one != ABSENT
    return cache[one].timestamp < cache[other].timestamp
