"""The quirks of the paper's simulator, each of which can be corrected on its own.

The published numbers contain all of them, so they are the default.
"""

from typing import NamedTuple


class Corrections(NamedTuple):
    """What is computed otherwise than in the paper's code; passed to compiled code as it is.

    Attributes:
        mlp_of_parent: a node's value subtracts the MLP FLOPs of its parent's prefix, as the text
            has it, and not the attention FLOPs.
        own_kvs: a node is charged the KVs of its own edge, and not those of the whole prefix.
        own_bytes: an evicted leaf frees its own bytes, and not those of the last leaf in preorder.
        whole_edges: a lookup ends at an edge that matches only in part, and does not go on among
            the children below it.
        capacity: room is made until what will be inserted fits, counted exactly, and a sequence
            that cannot fit is not inserted.
        expanded_state: the SSM state has the expansion factor 2 that the convolution state has.
        tuned_by_hits: the tuner takes the alpha with the highest token hit rate (the text), and not
            the one with most FLOPs saved (the code).
        tuned_from_snapshot: its replays start from the cache at the first eviction (the text), and
            not from an empty one (the code).
    """

    mlp_of_parent: bool = False
    own_kvs: bool = False
    own_bytes: bool = False
    whole_edges: bool = False
    capacity: bool = False
    expanded_state: bool = False
    tuned_by_hits: bool = False
    tuned_from_snapshot: bool = False

    @property
    def expansion(self) -> int:
        """Factor of the SSM state's size."""
        return 2 if self.expanded_state else 1


PAPER = Corrections()
"""The paper's code as it is."""

FORMULAS = Corrections(mlp_of_parent=True, own_kvs=True, own_bytes=True, whole_edges=True)
"""Everything that decides which node is worth keeping, corrected."""

CORRECTED = Corrections(*(True for _ in Corrections._fields))
"""Everything."""
