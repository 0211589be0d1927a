"""LRU on Marconi's own candidates: branch nodes may lose their state, not leaves alone.

Against SGLang+ it shows what the choice of candidates is worth; against Marconi, what FLOPs are.
"""

from marconi_core.policies.base import Entry, Policy


def last_use(entry: Entry) -> float:
    """The least recently used node goes."""
    return float(entry.last_use)


POLICIES = (Policy("lru", "LRU", "#CC79A7", "judicious", last_use),)
