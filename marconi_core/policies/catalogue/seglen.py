"""SegLen: Marconi with the length of a node's edge in place of FLOPs saved per byte."""

from marconi_core.policies.base import Entry, Policy


def edge_tokens(entry: Entry) -> float:
    """Tokens that a hit on the parent would have to compute again."""
    return float(entry.end - entry.start)


POLICIES = (Policy("seglen", "SegLen", "#000000", "judicious", edge_tokens, "tuned"),)
