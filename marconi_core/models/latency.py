"""How long a server takes to the first token, as a function of prompt and cached tokens.

``ms = start + per_1024_tokens * (prompt - cached) / 1024 + per_million_pairs * pairs / 10^6``, where a
pair is a token that is computed and one at or before it: attention. But never less than it takes to start
the kernels of all layers, which is what short prompts wait for. One request at a time.
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
        least_ms: of any prompt, however short.
    """

    start_ms: float
    per_1024_tokens_ms: float
    per_million_pairs_ms: float
    least_ms: float = 0.0

    @classmethod
    def fit(cls, prompt: ArrayLike, cached: ArrayLike, ttft_ms: ArrayLike) -> "PrefillLatency":
        """Return the least squares of relative errors, so that short prompts count as much as long ones.

        Which prompts are so short that they take the least time is tried out.

        Args:
            prompt, cached: tokens of each measured prompt, three different ones at least.
            ttft_ms: its time to first token, or the median of several.
        """
        times, terms = np.asarray(ttft_ms, np.float64), _terms(prompt, cached)
        by_computed_tokens = np.argsort(terms[:, 1], kind="stable")
        times, terms = times[by_computed_tokens], terms[by_computed_tokens]

        def error(latency: PrefillLatency) -> float:
            return float(np.square(latency._ms(terms) / times - 1).sum())

        return min((cls._with_short(n, terms, times) for n in range(len(times) - 2)), key=error)

    @classmethod
    def _with_short(cls, short: int, terms: Array, times: Array) -> "PrefillLatency":
        """Return the fit whose least time is that of the first `short` prompts."""
        rest = times[short:]
        coefficients, *_ = np.linalg.lstsq(terms[short:] / rest[:, None], np.ones(len(rest)))
        inverse = 1 / times[:short]
        least = inverse.sum() / np.square(inverse).sum() if short else 0.0
        start, per_1024_tokens, per_million_pairs = coefficients.tolist()
        return cls(start, per_1024_tokens, per_million_pairs, float(least))

    def ms(self, prompt: ArrayLike, cached: ArrayLike) -> Array:
        """Return times to first token in milliseconds, for any shape of token counts."""
        return self._ms(_terms(prompt, cached))

    def batch_ms(self, prompt: ArrayLike, cached: ArrayLike) -> float:
        """Return the milliseconds of one batch that computes all of these prompts."""
        work = _terms(prompt, cached).sum(axis=0)
        work[0] = 1  # one start
        return float(self._ms(work))

    def _ms(self, terms: Array) -> Array:
        coefficients = self.start_ms, self.per_1024_tokens_ms, self.per_million_pairs_ms
        return np.maximum(terms @ coefficients, self.least_ms)


@dataclass(frozen=True)
class BatchTimes:
    """How long a server's batches take.

    Attributes:
        prefill: of prompts. Beside requests that decode they take no longer than alone, once they begin.
        token_ms: of a decoding step of one request: what is read for it are the model's weights, above all.
        token_ms_per_other: more for each other request of the step.
    """

    prefill: PrefillLatency
    token_ms: float
    token_ms_per_other: float = 0.0

    @classmethod
    def fit(cls, prefill: PrefillLatency, others: ArrayLike, token_ms: ArrayLike) -> "BatchTimes":
        """Return the median of requests alone, and the line from there through those beside others.

        Args:
            others: requests that decoded beside each measured one; at least one must be 0.
            token_ms: its milliseconds per token.
        """
        count, ms = np.asarray(others, np.float64), np.asarray(token_ms, np.float64)
        alone = np.median(ms[count == 0])
        per_other = count @ (ms - alone) / max(count @ count, 1)
        return cls(prefill, float(alone), float(per_other))

    def decode_s(self, requests: int) -> float:
        """Return the seconds of a decoding step of so many requests."""
        return (self.token_ms + self.token_ms_per_other * (requests - 1)) / 1e3

    def prefill_s(self, upto: Sequence[int], computed: Sequence[int]) -> float:
        """Return the seconds of a batch that computes prompts.

        Args:
            upto: tokens of each prompt when the batch has ended.
            computed: how many of them were there before.
        """
        return self.prefill.batch_ms(upto, computed) / 1e3


def _terms(prompt: ArrayLike, cached: ArrayLike) -> Array:
    tokens, known = np.broadcast_arrays(
        np.asarray(prompt, np.float64), np.asarray(cached, np.float64)
    )
    pairs = (tokens**2 - known**2) / 2
    return np.stack([np.ones_like(tokens), (tokens - known) / 1024, pairs / 1e6], axis=-1)
