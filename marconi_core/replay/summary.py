"""What a replay comes to."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from marconi_core.replay.rows import ReplayRow


class ReplaySummary(NamedTuple):
    """Measurements over all requests; percentiles interpolate between requests.

    Attributes:
        requests: those without an error, over which everything here is computed.
        errors: those with one; such a replay is no measurement.
        duration_s: seconds from the first request sent to the last token received.
        token_hit_rate: cached tokens of all prompt tokens, 0 to 1.
        ttft_p5_ms, ttft_p50_ms, ttft_p95_ms, ttft_p99_ms, ttft_mean_ms: time to first token.
        input_tokens_per_s: prompt tokens, cached ones included, over the duration.
        output_tokens_per_s: tokens received, over the duration.
        mean_in_flight: requests in flight, averaged over the duration.
        jitter_p50_ms, jitter_p95_ms, jitter_max_ms: from when a request was due to when the client
            sent it; the client's own lateness.
    """

    requests: int
    errors: int
    duration_s: float
    token_hit_rate: float
    ttft_p5_ms: float
    ttft_p50_ms: float
    ttft_p95_ms: float
    ttft_p99_ms: float
    ttft_mean_ms: float
    input_tokens_per_s: float
    output_tokens_per_s: float
    mean_in_flight: float
    jitter_p50_ms: float
    jitter_p95_ms: float
    jitter_max_ms: float


def summarize(rows: Sequence[ReplayRow]) -> ReplaySummary:
    """Return the summary of a replay; all zero where no request succeeded."""
    good = [row for row in rows if not row.error]
    if not good:
        return ReplaySummary._make([0, len(rows), *[0.0] * (len(ReplaySummary._fields) - 2)])
    ttft = np.array([row.ttft_ms for row in good])
    jitter = 1e3 * np.array([row.sent_s - row.due_s for row in good])
    prompt_tokens = sum(row.prompt_tokens for row in good)
    duration_s = max(row.end_s for row in good) - min(row.sent_s for row in good)
    p5, p50, p95, p99 = _percentiles(ttft, 5, 50, 95, 99)
    jitter_p50, jitter_p95, jitter_max = _percentiles(jitter, 50, 95, 100)
    return ReplaySummary(
        requests=len(good),
        errors=len(rows) - len(good),
        duration_s=round(duration_s, 3),
        token_hit_rate=sum(row.cached_tokens for row in good) / prompt_tokens,
        ttft_p5_ms=p5,
        ttft_p50_ms=p50,
        ttft_p95_ms=p95,
        ttft_p99_ms=p99,
        ttft_mean_ms=round(float(ttft.mean()), 3),
        input_tokens_per_s=prompt_tokens / duration_s,
        output_tokens_per_s=sum(row.output_tokens for row in good) / duration_s,
        mean_in_flight=sum(row.end_s - row.sent_s for row in good) / duration_s,
        jitter_p50_ms=jitter_p50,
        jitter_p95_ms=jitter_p95,
        jitter_max_ms=jitter_max,
    )


def render(summary: ReplaySummary) -> str:
    """Return the summary as text."""
    s = summary
    return (
        f"{s.requests} requests, {s.errors} errors, {s.duration_s:.1f} s, "
        f"{s.mean_in_flight:.1f} in flight on average\n"
        f"token hit rate {100 * s.token_hit_rate:.2f} %, {s.input_tokens_per_s:.0f} prompt and "
        f"{s.output_tokens_per_s:.0f} output tokens a second\n"
        f"TTFT ms: P5 {s.ttft_p5_ms:.1f}, P50 {s.ttft_p50_ms:.1f}, P95 {s.ttft_p95_ms:.1f}, "
        f"P99 {s.ttft_p99_ms:.1f}\n"
        f"dispatch jitter ms: P50 {s.jitter_p50_ms:.2f}, P95 {s.jitter_p95_ms:.2f}, "
        f"max {s.jitter_max_ms:.2f}"
    )


def _percentiles(values: NDArray[np.float64], *which: float) -> list[float]:
    return [round(float(value), 3) for value in np.percentile(values, which)]
