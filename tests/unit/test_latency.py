"""The published latency line (paper, Figure 9)."""

import numpy as np
import pytest

from marconi_core.report.latency import ttft_ms


def test_shortest_and_longest_prompts() -> None:
    shortest, longest = ttft_ms([0, 40_000])
    assert shortest == pytest.approx(20.46, abs=0.005)
    assert longest == pytest.approx(1710.03, abs=0.005)


def test_a_length_on_the_grid_gets_the_next_grid_point() -> None:
    below, on = ttft_ms([49, 50])
    assert on - below == pytest.approx(2.648, abs=0.0005)
    assert ttft_ms(99) == on


def test_last_grid_point_is_used_from_there_on() -> None:
    at_31_899, at_31_900, at_31_950 = ttft_ms([31_899, 31_900, 31_950])
    assert at_31_899 < at_31_900 == at_31_950


def test_keeps_the_shape() -> None:
    assert ttft_ms(np.zeros((2, 3), int)).shape == (2, 3)
