"""Cached nodes in order of last use: a ring of links through the root, oldest first after it.

Works on any record with the fields `older`, `newer` and `timestamp`.
"""

from marconi_core.jit import in_place
from marconi_core.policies.siblings import ABSENT
from marconi_core.sim.records import Records
from marconi_core.traces.tree import ROOT


@in_place
def use(cache: Records, node: int, clock: int) -> None:
    """Stamp a node and make it the newest."""
    unlink(cache, node)
    newest = cache[ROOT].older
    cache[newest].newer = node
    cache[node].older = newest
    cache[node].newer = ROOT
    cache[ROOT].older = node
    cache[node].timestamp = clock


@in_place
def unlink(cache: Records, node: int) -> None:
    """Take a node out of the ring; one that is not in it has `older` ABSENT."""
    older, newer = cache[node].older, cache[node].newer
    if older != ABSENT:
        cache[older].newer = newer
        cache[newer].older = older
        cache[node].older = ABSENT
