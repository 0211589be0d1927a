"""GreedyDual-Size-Frequency (Cherkasova, 1998) with prefill FLOPs as cost.

The nearest textbook policy to FLOP-aware eviction: FLOPs per byte, times frequency, aged by a floor
that rises with every eviction, so that no alpha has to be tuned.
"""

from marconi_core.policies.base import Entry, Policy


def cost_per_byte(entry: Entry) -> float:
    """FLOPs saved so far per byte, on top of the value of what had gone before the last use."""
    return entry.floor + entry.uses * entry.flops / entry.size


POLICIES = (Policy("gdsf", "GDSF", "#009E73", "judicious", cost_per_byte),)
