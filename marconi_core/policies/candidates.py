"""The eviction candidates of a FLOP-aware cache, arranged to find the lowest score quickly.

Candidates are packed into an array and cut into groups. A group knows the range of its efficiencies
and timestamps, so a bound on its scores is one score; a search opens only groups whose bound is not
above the best score found so far. All operations of a score are monotone and correctly rounded, so
the bound holds in floating point and the search is exact.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from marconi_core.jit import compiled, in_place

GROUP = 32

CANDIDATE = np.dtype(
    [("efficiency", np.float64), ("timestamp", np.int64), ("node", np.int32)], align=True
)
SUMMARY = np.dtype(
    [
        ("lowest", np.float64),  # range of the efficiencies
        ("highest", np.float64),
        ("oldest", np.int64),  # range of the timestamps
        ("newest", np.int64),
        ("bound", np.float64),  # on the scores; set during a search
        ("stale", np.bool_),  # the ranges have to be found anew
    ],
    align=True,
)


class Candidates(NamedTuple):
    """Nodes that may be evicted.

    Attributes:
        entries: CANDIDATE[capacity]; the first `used[0]` are in use.
        groups: SUMMARY[groups]; one for each GROUP entries.
        tied: int32[capacity]; result of the last search.
        used: int64[1].
    """

    entries: Any
    groups: Any
    tied: NDArray[np.int32]
    used: NDArray[np.int64]


@compiled
def empty_candidates(capacity: int) -> Candidates:
    """Return room for `capacity` candidates."""
    return Candidates(
        np.empty(capacity, CANDIDATE),
        np.empty(capacity // GROUP + 1, SUMMARY),
        np.empty(capacity, np.int32),
        np.zeros(1, np.int64),
    )


@in_place
def add(candidates: Candidates, node: int, efficiency: float, timestamp: int) -> int:
    """Add a candidate; return its place."""
    place = candidates.used[0]
    candidates.used[0] += 1
    candidates.entries[place].node = node
    change(candidates, place, efficiency, timestamp)
    return place


@in_place
def change(candidates: Candidates, place: int, efficiency: float, timestamp: int) -> None:
    """Set the efficiency and timestamp of the candidate at `place`."""
    candidates.entries[place].efficiency = efficiency
    touch(candidates, place, timestamp)


@in_place
def touch(candidates: Candidates, place: int, timestamp: int) -> None:
    """Set the timestamp of the candidate at `place`."""
    candidates.entries[place].timestamp = timestamp
    candidates.groups[place // GROUP].stale = True


@in_place
def remove(candidates: Candidates, place: int) -> int:
    """Remove the candidate at `place`; return the node that now stands there (maybe the removed)."""
    candidates.used[0] -= 1
    last = candidates.used[0]
    moved = candidates.entries[last].node
    candidates.entries[place].node = moved
    candidates.groups[last // GROUP].stale = True
    change(
        candidates, place, candidates.entries[last].efficiency, candidates.entries[last].timestamp
    )
    return moved


@in_place
def search(candidates: Candidates, clock: int, alpha: float) -> int:
    """Find the lowest score: recency + alpha * efficiency, each min-max normalised.

    Recency is 1 / (clock - timestamp). A term that is the same for all candidates counts as 1.

    Args:
        candidates: at least one.
        clock: now, later than all timestamps.

    Returns:
        How many candidates have the lowest score; they are the first entries of `tied`.
    """
    entries, groups, used = candidates.entries, candidates.groups, candidates.used[0]
    number = (used + GROUP - 1) // GROUP
    low, high, oldest, newest = np.inf, -np.inf, clock, np.int64(-1)
    for group in range(number):
        if groups[group].stale:
            _summarise(entries, groups, group, used)
        low, high = min(low, groups[group].lowest), max(high, groups[group].highest)
        oldest, newest = min(oldest, groups[group].oldest), max(newest, groups[group].newest)
    width, stalest = high - low, 1 / (clock - oldest)
    span = 1 / (clock - newest) - stalest

    first = 0
    for group in range(number):
        groups[group].bound = _score(
            groups[group].lowest, groups[group].oldest, clock, alpha, low, width, stalest, span
        )
        if groups[group].bound < groups[first].bound:
            first = group
    best, ties = np.inf, 0
    for turn in range(number):
        group = first if turn == 0 else 0 if turn == first else turn  # the most promising first
        if groups[group].bound > best:
            continue
        for place in range(group * GROUP, min((group + 1) * GROUP, used)):
            score = _score(
                entries[place].efficiency, entries[place].timestamp,
                clock, alpha, low, width, stalest, span,
            )  # fmt: skip
            if score <= best:
                if score < best:
                    best, ties = score, 0
                candidates.tied[ties] = entries[place].node
                ties += 1
    return ties


@in_place
def search_values(candidates: Candidates) -> int:
    """Find the lowest efficiency, of equals the oldest; without normalisation or recency.

    Args:
        candidates: at least one.

    Returns:
        How many candidates share both; they are the first entries of `tied`.
    """
    entries, groups, used = candidates.entries, candidates.groups, candidates.used[0]
    lowest, oldest, ties = np.inf, np.int64(0), 0
    for group in range((used + GROUP - 1) // GROUP):
        if groups[group].stale:
            _summarise(entries, groups, group, used)
        if groups[group].lowest > lowest:
            continue
        for place in range(group * GROUP, min((group + 1) * GROUP, used)):
            value, timestamp = entries[place].efficiency, entries[place].timestamp
            if ties > 0 and (value > lowest or (value == lowest and timestamp > oldest)):
                continue
            if ties == 0 or value < lowest or timestamp < oldest:
                lowest, oldest, ties = value, timestamp, 0
            candidates.tied[ties] = entries[place].node
            ties += 1
    return ties


@in_place
def _summarise(entries: Any, groups: Any, group: int, used: int) -> None:
    start = group * GROUP
    lowest = highest = entries[start].efficiency
    oldest = newest = entries[start].timestamp
    for place in range(start + 1, min(start + GROUP, used)):
        lowest = min(lowest, entries[place].efficiency)
        highest = max(highest, entries[place].efficiency)
        oldest = min(oldest, entries[place].timestamp)
        newest = max(newest, entries[place].timestamp)
    groups[group].lowest, groups[group].highest = lowest, highest
    groups[group].oldest, groups[group].newest = oldest, newest
    groups[group].stale = False


@in_place
def _score(
    efficiency: float,
    timestamp: int,
    clock: int,
    alpha: float,
    low: float,
    width: float,
    stalest: float,
    span: float,
) -> float:
    """Score one candidate, given lowest value and width of both terms' ranges.

    No fused multiply-add: each operation rounds.
    """
    e = (efficiency - low) / width if width > 0 else 1.0
    r = (1 / (clock - timestamp) - stalest) / span if span > 0 else 1.0
    return alpha * e + r
