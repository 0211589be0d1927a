"""Python's heapq on node ids ordered by timestamp, compiled.

Timestamps tie, and then the reference's eviction order is whatever heapq makes of it; so this is
the same algorithm, comparison for comparison.
"""

from marconi_core.jit import in_place
from marconi_core.sim.records import Ints, Records


@in_place
def heapify(heap: Ints, size: int, cache: Records) -> None:
    """Make ``heap[:size]`` a heap."""
    for place in range(size // 2 - 1, -1, -1):
        _sift_up(heap, size, place, cache)


@in_place
def pop(heap: Ints, size: int, cache: Records) -> int:
    """Return the least recently used node; the heap is then ``heap[: size - 1]``."""
    least = heap[0]
    if size > 1:
        heap[0] = heap[size - 1]
        _sift_up(heap, size - 1, 0, cache)
    return least


@in_place
def push(heap: Ints, size: int, node: int, cache: Records) -> None:
    """Add a node; the heap is then ``heap[: size + 1]``."""
    heap[size] = node
    _sift_down(heap, 0, size, cache)


@in_place
def _sift_down(heap: Ints, start: int, place: int, cache: Records) -> None:
    """Move ``heap[place]`` towards `start` past parents with later timestamps."""
    item = heap[place]
    while place > start:
        parent = (place - 1) >> 1
        if not cache[item].timestamp < cache[heap[parent]].timestamp:
            break
        heap[place] = heap[parent]
        place = parent
    heap[place] = item


@in_place
def _sift_up(heap: Ints, size: int, place: int, cache: Records) -> None:
    """Let the earlier child rise, down to a leaf's place, then settle the item from there."""
    start, item = place, heap[place]
    child = 2 * place + 1
    while child < size:
        right = child + 1
        if right < size and not cache[heap[child]].timestamp < cache[heap[right]].timestamp:
            child = right
        heap[place] = heap[child]
        place = child
        child = 2 * place + 1
    heap[place] = item
    _sift_down(heap, start, place, cache)
