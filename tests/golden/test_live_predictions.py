"""Replays recorded on GPUs beside their predictions: the simulated scheduler under the same load."""

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
    values = (replay.server, replay.load, replay.trace, replay.variant, replay.states)
    return dict(zip(KEYS, (*values, replay.kv_tokens, replay.requests_planned), strict=True))


@pytest.mark.parametrize("row", SHIPPED.index)
def test_predictions_are_near_what_was_measured(row: int) -> None:
    """Hit rates within four points, medians a quarter too short at most, P95 a third: what happens seldom on
    a real machine is not simulated."""
    prediction = SHIPPED.loc[row]
    hits = measured(prediction, "token_hit_rate")
    assert prediction["token_hit_rate"] == pytest.approx(hits, abs=0.04)
    for percentile, shortest in (("ttft_p50_ms", 0.7), ("ttft_p95_ms", 0.67)):
        if pd.notna(prediction[percentile]):
            ratio = prediction[percentile] / measured(prediction, percentile)
            assert shortest < ratio < 1.15, percentile


def test_what_marconi_changes_is_predicted() -> None:
    """Beside stock of the same strategy in the same place: hits gained within four points, times lowered
    where they were lowered."""
    places = SHIPPED.groupby([key for key in KEYS if key != "variant"])
    pairs = [
        (place.loc[stock], place.loc[ours])
        for _, group in places
        for place in [group.set_index("variant", drop=False)]
        for stock, ours in (("extra_buffer", "marconi"), ("no_buffer", "marconi_no_buffer"))
        if {stock, ours} <= set(place.index)
    ]
    assert len(pairs) == 8
    for before, after in pairs:
        gain = after["token_hit_rate"] - before["token_hit_rate"]
        seen = measured(after, "token_hit_rate") - measured(before, "token_hit_rate")
        assert gain == pytest.approx(seen, abs=0.04) and gain > 0.1
        if pd.notna(after["ttft_p50_ms"]):
            assert after["ttft_p50_ms"] < before["ttft_p50_ms"]
            assert measured(after, "ttft_p50_ms") < measured(before, "ttft_p50_ms")


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
