"""How long a server takes to the first token, as a function of prompt and cached tokens.

``ms = start + per_1024_tokens * (prompt - cached) / 1024 + per_million_pairs * pairs / 10^6``, where a
pair is a token that is computed and one at or before it: attention. One request at a time.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class PrefillLatency:
    """A fit to measured times to first token.

    Attributes:
        start_ms: of any prompt.
        per_1024_tokens_ms: of each 1,024 tokens that are not cached.
        per_million_pairs_ms: of each million pairs.
    """

    start_ms: float
    per_1024_tokens_ms: float
    per_million_pairs_ms: float

    @classmethod
    def fit(cls, prompt: ArrayLike, cached: ArrayLike, ttft_ms: ArrayLike) -> "PrefillLatency":
        """Return the least squares of relative errors, so that short prompts count as much as long ones.

        Args:
            prompt, cached: tokens of each measured prompt, three different ones at least.
            ttft_ms: its time to first token, or the median of several.
        """
        times = np.asarray(ttft_ms, np.float64)
        terms = _terms(prompt, cached) / times[:, None]
        coefficients, *_ = np.linalg.lstsq(terms, np.ones(len(times)), rcond=None)
        return cls(*(float(value) for value in coefficients))

    def ms(self, prompt: ArrayLike, cached: ArrayLike) -> Array:
        """Return times to first token in milliseconds, for any shape of token counts."""
        terms: Array = _terms(prompt, cached)
        return np.asarray(
            terms @ (self.start_ms, self.per_1024_tokens_ms, self.per_million_pairs_ms)
        )


@dataclass(frozen=True)
class BatchTimes:
    """How long a server's batches take.

    Attributes:
        prefill: of one prompt; the start is paid once a batch.
        token_ms: of a decoding step, whatever the number of requests: what is read for it are the
            model's weights, above all.
    """

    prefill: PrefillLatency
    token_ms: float

    @property
    def decode_s(self) -> float:
        """Seconds of a decoding step."""
        return self.token_ms / 1e3

    def prefill_s(self, upto: Sequence[int], computed: Sequence[int]) -> float:
        """Return the seconds of a batch that computes prompts.

        Args:
            upto: tokens of each prompt when the batch has ended.
            computed: how many of them were there before.
        """
        alone = self.prefill.ms(upto, computed)
        return float(alone.sum() - (len(alone) - 1) * self.prefill.start_ms) / 1e3


def _terms(prompt: ArrayLike, cached: ArrayLike) -> Array:
    tokens, known = np.broadcast_arrays(
        np.asarray(prompt, np.float64), np.asarray(cached, np.float64)
    )
    pairs = (tokens**2 - known**2) / 2
    return np.stack([np.ones_like(tokens), (tokens - known) / 1024, pairs / 1e6], axis=-1)
