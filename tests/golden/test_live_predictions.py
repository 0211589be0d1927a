"""Replays recorded on an H100 beside their predictions: the simulated scheduler under the same load."""

import statistics

import pandas as pd
import pytest

from marconi_core.assets import resource
from marconi_core.replay.summary import ReplaySummary
from marconi_core.report.predicted import KEYS, Prediction, predict, read_predictions
from marconi_core.serving.recordings import Recording, load, recorded_files
from marconi_core.traces.arrivals import PoissonArrivals
from marconi_core.traces.trace import Workload

REPLAYS = [r for r in load(recorded_files("replay")) if r.complete]
SHIPPED = read_predictions([resource("recorded")])


def measured(prediction: pd.Series, value: str) -> float:
    """Return the median over the repeats of what was predicted."""
    found = [
        ReplaySummary(**replay.description["summary"])._asdict()[value]
        for replay in REPLAYS
        if all(prediction[key] == _key(replay)[key] for key in KEYS)
    ]
    return statistics.median(found)


def _key(replay: Recording) -> dict[str, object]:
    values = (replay.load, replay.trace, replay.variant, replay.states, replay.kv_tokens)
    return dict(zip(KEYS, (*values, replay.requests_planned), strict=True))


@pytest.mark.parametrize("variant", ["extra_buffer", "marconi"])
def test_predictions_are_near_what_was_measured(variant: str) -> None:
    """Hit rates within a point and a half; times up to three tenths too short: no client, no HTTP, no kernel
    that has to be compiled."""
    [(_, prediction)] = SHIPPED[SHIPPED["variant"] == variant].iterrows()
    hits = measured(prediction, "token_hit_rate")
    assert prediction["token_hit_rate"] == pytest.approx(hits, abs=0.015)
    for percentile in ("ttft_p50_ms", "ttft_p95_ms"):
        ratio = prediction[percentile] / measured(prediction, percentile)
        assert 0.7 < ratio < 1.1, percentile


def test_shipped_predictions_are_todays(swebench: Workload) -> None:
    arrivals = PoissonArrivals(sessions_per_second=1, mean_response_time=5)
    trace = swebench.schedule(arrivals.timestamps(swebench))
    name = "swebench_sps=1_art=5_nums=100"
    found = pd.DataFrame(predict(REPLAYS, {name: trace}), columns=list(Prediction._fields))
    wanted = SHIPPED[SHIPPED["trace"] == name]
    pd.testing.assert_frame_equal(
        found.round(6).sort_values("variant", ignore_index=True),
        wanted.sort_values("variant", ignore_index=True),
    )
