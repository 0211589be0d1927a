"""The fit of times to first token."""

from dataclasses import astuple

import numpy as np
import pytest

from marconi_core.models.latency import PrefillLatency


def test_exact_times_give_their_coefficients_back() -> None:
    true = PrefillLatency(13.0, 34.5, 0.361)
    prompt, cached = np.meshgrid([1024, 4096, 32768], [0, 512, 1000])
    fitted = PrefillLatency.fit(
        prompt.ravel(), cached.ravel(), true.ms(prompt.ravel(), cached.ravel())
    )
    assert fitted.start_ms == pytest.approx(13)
    assert fitted.per_1024_tokens_ms == pytest.approx(34.5)
    assert fitted.per_million_pairs_ms == pytest.approx(0.361)


def test_short_prompts_take_the_least_time() -> None:
    true = PrefillLatency(13.0, 34.5, 0.361, least_ms=50)
    prompt, cached = np.meshgrid([700, 1024, 2048, 4096, 32768], [0, 512, 600])
    times = true.ms(prompt, cached)
    assert (times == 50).sum() == 6 and times.min() == 50
    fitted = PrefillLatency.fit(prompt.ravel(), cached.ravel(), times.ravel())
    assert astuple(fitted) == pytest.approx(astuple(true))


def test_prompts_of_one_batch_share_start_and_least_time() -> None:
    latency = PrefillLatency(10.0, 1024.0, 0.0, least_ms=50)
    assert latency.batch_ms([20, 30], [0, 5]) == pytest.approx(10 + 20 + 25)
    assert latency.batch_ms([20, 8], [0, 5]) == 50
    assert latency.batch_ms([600], [100]) == latency.ms(600, 100)


def test_pairs_are_those_of_computed_tokens() -> None:
    attention = PrefillLatency(0.0, 0.0, 1.0)
    assert attention.ms(3000, 1000) == pytest.approx((3000**2 - 1000**2) / 2e6)
    assert PrefillLatency(1.0, 1024.0, 0.0).ms([5, 5], [5, 3]).tolist() == [1, 3]


def test_short_prompts_count_as_much_as_long_ones() -> None:
    """One of ten long prompts off by 100 ms must not move the start by 100 ms."""
    true = PrefillLatency(20.0, 30.0, 0.3)
    prompt = np.array([64, 128, 256, 30_000, 31_000, 32_000])
    times = true.ms(prompt, 0)
    times[-1] += 100
    assert PrefillLatency.fit(prompt, 0 * prompt, times).start_ms == pytest.approx(20, abs=1)
