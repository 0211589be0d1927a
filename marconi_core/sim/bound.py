"""How many prompt tokens any cache of a given size could serve, if it knew the future.

A hit of request i that ends at union-tree node v needs the KVs of all tokens down to v, each from
the last request before i that passed them, and a state at v, from the last request before i that
passed v. Between two requests all that is kept must fit into the cache. Nothing else is asked of the
cache: it may keep the state of any position, and drop and keep what it likes.

Upper bound: Lagrangian relaxation. With a price on each byte kept after each request, every request
chooses its hit by itself, since an interval between two uses belongs to the later one. For any
prices >= 0, what the requests then gain, plus the price of the whole cache, is at least what any
cache can serve (weak duality); subgradient steps look for prices that make it small.

Schedule: a cache that knows the future and fits, found greedily. The optimum lies between the two.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from marconi_core.jit import compiled
from marconi_core.policies.flop_aware import Costs
from marconi_core.traces.trace import Trace
from marconi_core.traces.tree import ROOT

STEPS = 400
PATIENCE = 20
"""Subgradient steps in all, and without progress before the step size is halved."""


class Chances(NamedTuple):
    """What each request could be served from an unlimited cache: a chain of pieces of its prompt.

    A piece is a run of tokens that the same earlier request passed last.

    Attributes:
        first: int64[requests + 1]; request i has the pieces ``first[i]:first[i + 1]``.
        since: int64[pieces]; the last request before that passed the piece.
        tokens: int64[pieces].
    """

    first: NDArray[np.int64]
    since: NDArray[np.int64]
    tokens: NDArray[np.int64]


class Bounds(NamedTuple):
    """Prompt tokens that a cache can serve.

    Attributes:
        unlimited: with room for everything.
        upper: proven: no cache of this size serves more.
        schedule: what a cache of this size that knows the future was seen to serve.
    """

    unlimited: int
    upper: int
    schedule: int


def chances(trace: Trace) -> Chances:
    """Return the pieces of a trace's prompts."""
    tree = trace.tree
    counted = _pieces(tree.parent, tree.depth, tree.level, trace.in_node, trace.out_node)
    return Chances(*counted)


def bounds(trace: Trace, found: Chances, costs: Costs, capacity: float) -> Bounds:
    """Return bounds on the prompt tokens served.

    Args:
        found: the trace's `chances`.
        capacity: bytes.
    """
    state, token = costs.state_bytes / capacity, costs.kv_bytes / capacity
    unlimited = int(found.tokens.sum())
    plain = _schedule(*found, state, token, np.zeros(len(trace)))
    upper, prices = _relax(*found, state, token, float(plain))
    priced = _schedule(*found, state, token, prices)
    # An integer below the bound plus all rounding errors is one below the bound.
    return Bounds(unlimited, min(unlimited, int(upper + 1e-6 * upper)), max(plain, priced))


@compiled
def _pieces(parent, depth, level, in_node, out_node):  # type: ignore[no-untyped-def]
    visited = np.full(len(parent), -1, np.int64)
    first = np.zeros(len(in_node) + 1, np.int64)
    room = 0
    for node in in_node:
        room += level[node]
    since, tokens = np.empty(room, np.int64), np.empty(room, np.int64)
    path = np.empty(level.max() + 1, np.int64)
    used = 0
    for i in range(len(in_node)):
        node, count = in_node[i], 0
        while node != ROOT:
            path[count] = node
            count += 1
            node = parent[node]
        start = used
        for place in range(count - 1, -1, -1):
            node = path[place]
            if visited[node] < 0:
                break
            length = depth[node] - depth[parent[node]]
            if used > start and since[used - 1] == visited[node]:
                tokens[used - 1] += length
            else:
                since[used], tokens[used] = visited[node], length
                used += 1
        first[i + 1] = used
        node = out_node[i]
        while node != ROOT:
            visited[node] = i
            node = parent[node]
    return first, since[:used].copy(), tokens[:used].copy()


@compiled
def _relax(first, since, tokens, state, token, reached):  # type: ignore[no-untyped-def]
    """Return the lowest bound found, and the prices that give it: float64[requests].

    Args:
        state, token: parts of the capacity.
        reached: tokens that some cache serves.
    """
    requests = len(first) - 1
    prices, best_prices = np.zeros(requests), np.zeros(requests)
    best, scale, stuck = np.inf, 1.0, 0
    for _ in range(STEPS):
        sums = np.zeros(requests + 1)  # of the prices before each request
        for i in range(requests):
            sums[i + 1] = sums[i] + prices[i]
        kept = np.zeros(requests + 1)  # change of what is kept, by request
        bound = sums[requests]
        for i in range(requests):
            gain, choice = _best(i, first, since, tokens, state, token, sums)
            bound += gain
            for piece in range(first[i], choice):
                kept[since[piece]] += token * tokens[piece]
                kept[i] -= token * tokens[piece]
            if choice > first[i]:
                kept[since[choice - 1]] += state
                kept[i] -= state
        stuck += 1
        if bound < best - 1e-9 * best or best == np.inf:
            best, stuck = bound, 0
            best_prices[:] = prices
        if stuck == PATIENCE:
            scale, stuck = scale / 2, 0
            prices[:] = best_prices
            continue
        square, now = 0.0, 0.0
        for i in range(requests):
            now += kept[i]
            kept[i] = now - 1
            if prices[i] > 0 or now > 1:
                square += kept[i] ** 2
        if square == 0 or best <= reached:
            break
        step = scale * (bound - reached) / square
        for i in range(requests):
            prices[i] = max(0.0, prices[i] + step * kept[i])
    return best, best_prices


@compiled
def _best(i, first, since, tokens, state, token, sums):  # type: ignore[no-untyped-def]
    """Return the most that request i gains at these prices, and the end of the pieces it keeps."""
    gain, choice, profit = 0.0, first[i], 0.0
    for piece in range(first[i], first[i + 1]):
        price = sums[i] - sums[since[piece]]
        profit += tokens[piece] * (1 - token * price)
        if profit - state * price > gain:
            gain, choice = profit - state * price, piece + 1
    return gain, choice


@compiled
def _schedule(first, since, tokens, state, token, prices):  # type: ignore[no-untyped-def]
    """Return the tokens served when requests reserve room one after the other.

    Those come first that gain most, at the given prices, per byte and request for which it is kept.
    """
    requests = len(first) - 1
    sums = np.zeros(requests + 1)
    for i in range(requests):
        sums[i + 1] = sums[i] + prices[i]
    worth = np.zeros(requests)
    for i in range(requests):
        gain, choice = _best(i, first, since, tokens, state, token, sums)
        if choice == first[i]:
            choice = first[i + 1]
        area = 0.0
        for piece in range(first[i], choice):
            area += token * tokens[piece] * (i - since[piece])
        if choice > first[i]:
            worth[i] = gain / (area + state * (i - since[choice - 1]))
    kept, after = np.zeros(requests), np.empty(requests)
    served = 0
    for i in np.argsort(-worth, kind="mergesort"):
        choice = first[i + 1]
        while choice > first[i] and not _fits(
            i, first, since, tokens, state, token, kept, choice, after
        ):
            choice -= 1
        if choice > first[i]:
            start = since[choice - 1]
            kept[start:i] = after[start:i]
            for piece in range(first[i], choice):
                served += tokens[piece]
    return served


@compiled
def _fits(i, first, since, tokens, state, token, kept, choice, after):  # type: ignore[no-untyped-def]
    """Tell whether the pieces up to `choice` fit, and write to `after` what is kept with them.

    Earlier pieces are kept for a shorter time.
    """
    need, piece = state, choice - 1
    for now in range(since[choice - 1], i):
        while piece >= first[i] and since[piece] <= now:
            need += token * tokens[piece]
            piece -= 1
        after[now] = kept[now] + need
        if after[now] > 1:
            return False
    return True
