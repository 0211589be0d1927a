"""LFU with dynamic aging (Arlitt et al., 2000): what was used often, but long ago, goes in the end."""

from marconi_core.policies.base import Entry, Policy


def aged_uses(entry: Entry) -> float:
    """Number of uses, on top of the value of what had gone before the last one."""
    return entry.floor + entry.uses


POLICIES = (Policy("lfu", "LFU", "#F0E442", "judicious", aged_uses),)
