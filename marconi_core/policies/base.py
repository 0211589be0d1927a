"""What a policy is, and what its rule for eviction is told about a cached node."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple


class Entry(NamedTuple):
    """A cached node as an eviction rule sees it; its edge covers tokens `start` to `end`.

    Attributes:
        start, end: tokens before the edge, and to its end.
        uses: 1 for its insertion, and 1 for each prompt served from its state.
        last_use: logical time of the last use.
        flops: FLOPs of prefilling the edge's tokens with those before it cached.
        size: bytes of the node's state and of its edge's KVs.
        floor: the highest value of a node evicted before the last use; 0 at first.
    """

    start: int
    end: int
    uses: int
    last_use: int
    flops: float
    size: float
    floor: float


Valuation = Callable[[Entry], float]
"""A node's value; plain arithmetic, since it is compiled."""

Eviction = Literal["lru", "flop_aware"] | Valuation


@dataclass(frozen=True)
class Policy:
    """A cache policy: what is admitted, what is evicted, and who chooses alpha.

    Attributes:
        name: how configurations and result rows call it.
        label: how figures call it.
        color: in all figures. Okabe-Ito colours can be told apart with every common colour vision
            deficiency; #D55E00 is kept for the paper's values.
        admission: `blocks` keeps a state every 32 tokens; `judicious` keeps states at branch points
            and after the last decoded token.
        eviction: `lru` evicts the least recently used leaf; `flop_aware` the lowest recency + alpha
            * FLOPs saved per byte, of nodes with at most one child; a `Valuation`, of these nodes
            the one with the lowest value, or, where the policy has an alpha, with the lowest
            recency + alpha * value.
        alpha: `static` is given, `tuned` is chosen online; None where eviction needs none.
        alignment: states are kept at multiples of so many tokens only.
    """

    name: str
    label: str
    color: str
    admission: Literal["blocks", "judicious"]
    eviction: Eviction
    alpha: Literal["static", "tuned"] | None = None
    alignment: int = 1
