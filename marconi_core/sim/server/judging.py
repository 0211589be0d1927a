"""What comes of judging alphas, however that is done."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Tuning:
    """One tuning.

    Attributes:
        request: requests seen so far.
        alpha: chosen.
        scores: FLOPs saved under each alpha, as the method counts them.
    """

    request: int
    alpha: float
    scores: Mapping[float, float]


def best(scores: Mapping[float, float], current: float) -> float:
    """Return the alpha with the highest score; of equals the current one, else the smallest."""
    highest = max(scores.values())
    equals = [alpha for alpha in sorted(scores) if scores[alpha] == highest]
    return current if current in equals else equals[0]
