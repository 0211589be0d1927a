"""Alpha tuning as the paper's simulator does it: replay a bootstrap window under each alpha, once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

ALPHA_GRID: tuple[float, ...] = tuple(step / 10 for step in range(21))
"""The alphas tried: 0, 0.1, ..., 2."""

SCORED_REQUESTS = 500
"""A replay is scored by the FLOPs saved over its last 500 requests (the paper's text: hit rate)."""


@dataclass(frozen=True)
class Tuning:
    """One tuning: what was tried when, and what was chosen.

    Attributes:
        request: number of the request, from 1, at whose insertion alpha changed.
        scores: FLOPs saved by each alpha over the scored part of the window.
    """

    request: int
    scores: Mapping[float, int]

    @property
    def alpha(self) -> float:
        """The alpha that saved most; of equals the smallest.

        The reference takes whichever replay finishes first among equals, which is not reproducible.
        """
        return max(sorted(self.scores), key=lambda alpha: self.scores[alpha])


def bootstrap_window(multiplier: int, first_eviction: int) -> int:
    """Return the length of the window in requests; 0 when nothing has been evicted.

    Args:
        multiplier: how many times the requests that fitted before the first eviction.
        first_eviction: requests seen at the first eviction, that one included; 0 for never.
    """
    return multiplier * first_eviction


def scored_part(skipped: Sequence[int]) -> Sequence[int]:
    """Return the records of a replayed window that count."""
    return skipped[-SCORED_REQUESTS:]
