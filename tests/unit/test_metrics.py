"""The paper's summary numbers on tables that can be checked by hand."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from marconi_core.errors import DataError
from marconi_core.report.latency import ttft_ms
from marconi_core.report.metrics import (
    VANILLA,
    hit_rates,
    largest_ttft_reduction,
    p95_ttft,
    ratios,
    read_tables,
    relative_gains,
)

POLICIES = ("vllm_plus", "sglang_plus", "marconi")


def test_hit_rates_are_percent_per_configuration(runs: pd.DataFrame) -> None:
    rates = hit_rates(runs, POLICIES)
    assert rates.shape == (4, 3)
    assert rates["marconi"].tolist() == pytest.approx([44, 50, 20, 75])


def test_static_alphas_are_ignored(runs: pd.DataFrame) -> None:
    oracle = runs[runs["policy"] == "marconi"].assign(policy="oracle")
    with_oracle = pd.concat([runs, oracle, oracle])
    pd.testing.assert_frame_equal(hit_rates(with_oracle, POLICIES), hit_rates(runs, POLICIES))


def test_rounding_as_in_the_papers_logs_leaves_zero_baselines_out(runs: pd.DataFrame) -> None:
    exact = ratios(hit_rates(runs, POLICIES), "marconi", "vllm_plus")
    rounded = ratios(hit_rates(runs, POLICIES, 2), "marconi", "vllm_plus")
    assert len(exact) == 4  # 0.001 % is more than nothing,
    assert rounded.tolist() == pytest.approx([8.8, 5.0, 3.75])  # 0.00 % is not


def test_relative_gains(runs: pd.DataFrame) -> None:
    gains = relative_gains(hit_rates(runs, POLICIES), "marconi", "sglang_plus")
    assert gains.tolist() == pytest.approx([10, 0, -20, 25])


def test_p95_ttft_is_over_requests_and_has_vanilla(requests: pd.DataFrame) -> None:
    p95 = p95_ttft(requests, POLICIES)
    assert set(p95.columns) == {*POLICIES, VANILLA}
    vanilla = np.percentile(ttft_ms([100, 1_000, 2_000, 5_000]), 95)
    assert p95[VANILLA].tolist() == pytest.approx([vanilla] * 4)
    marconi = np.percentile(ttft_ms([25, 250, 500, 1_250]), 95)
    assert p95["marconi"].iloc[3] == pytest.approx(marconi)


def test_largest_reduction_gives_points_and_the_milliseconds_there(requests: pd.DataFrame) -> None:
    p95 = p95_ttft(requests, POLICIES)
    points, milliseconds = largest_ttft_reduction(p95, "marconi", VANILLA)
    best = p95.iloc[3]  # the configuration with 75 % hits
    assert milliseconds == pytest.approx(best[VANILLA] - best["marconi"])
    assert points == pytest.approx(100 * milliseconds / best[VANILLA])


def test_no_tables_is_one_clear_error() -> None:
    with pytest.raises(DataError, match="no result tables"):
        read_tables([])


def test_tables_can_be_read_for_some_policies_only(requests: pd.DataFrame, tmp_path: Path) -> None:
    paths = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    for path in paths:
        requests.to_parquet(path)
    some = read_tables(paths, ["marconi"])
    assert set(some["policy"]) == {"marconi"}
    assert len(some) == 2 * (requests["policy"] == "marconi").sum()
    assert len(read_tables(paths)) == 2 * len(requests)
