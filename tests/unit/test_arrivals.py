"""Arrival times against a plain re-statement of the two processes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from marconi_core.errors import TraceError
from marconi_core.traces.arrivals import (
    Arrivals,
    PoissonArrivals,
    RecordedArrivals,
    TypingArrivals,
)
from marconi_core.traces.trace import SessionTokens, TurnTokens, Workload


def workload(words: list[list[int]], broke_off: list[bool] | None = None) -> Workload:
    """Sessions with the given words per turn; one that broke off has drawn one turn more."""
    broke_off = broke_off or [False] * len(words)
    return Workload.build(
        SessionTokens(
            s,
            [TurnTokens([s, t], [t], count) for t, count in enumerate(session)],
            drawn_turns=len(session) + broke,
        )
        for s, (session, broke) in enumerate(zip(words, broke_off, strict=True))
    )


def test_typing_time_precedes_every_turn_but_the_first():
    times = TypingArrivals(sessions_per_second=0.5).timestamps(workload([[9, 3, 6], [], [7, 1]]))
    assert times.tolist() == [0.0, 2.0, 6.0, 4.0, 4.0 + 1 / 1.5]


@settings(max_examples=50, deadline=None)
@given(
    words=st.lists(st.lists(st.integers(0, 500), min_size=1, max_size=6), min_size=1, max_size=6),
    rate=st.sampled_from([0.25, 0.3, 1, 7]),
    speed=st.sampled_from([90, 37.5]),
)
def test_typing_adds_floats_in_the_order_of_the_paper(words, rate, speed):
    expected = []
    for session, counts in enumerate(words):
        now = session / rate
        for turn, count in enumerate(counts):
            if turn > 0:
                now += count / (speed / 60)
            expected.append(now)
    arrivals = TypingArrivals(sessions_per_second=rate, words_per_minute=speed)
    assert arrivals.timestamps(workload(words)).tolist() == expected


def test_response_times_are_drawn_also_for_the_turn_that_broke_a_limit():
    words, broke = [[0, 0, 0], [0], [0, 0]], [True, True, False]
    stream = np.random.RandomState(42)
    expected = []
    for session, counts in enumerate(words):
        now = session / 2
        for turn in range(len(counts) + broke[session]):
            if turn > 0:
                now += stream.poisson(7.5)
            if turn < len(counts):
                expected.append(now)
    arrivals = PoissonArrivals(sessions_per_second=2, mean_response_time=7.5)
    assert arrivals.timestamps(workload(words, broke)).tolist() == expected


def test_recorded_times_order_the_requests():
    recorded = Workload.build(
        SessionTokens(s, [TurnTokens([s], [s], recorded_ts=ts)], drawn_turns=1)
        for s, ts in enumerate([3.0, 0.5, 3.0, 1.5])
    )
    trace = recorded.schedule(RecordedArrivals().timestamps(recorded))
    assert trace.ts.tolist() == [0.5, 1.5, 3.0, 3.0]
    assert trace.session.tolist() == [1, 3, 0, 2]  # of equal times the first comes first


def test_recorded_arrivals_need_times():
    with pytest.raises(TraceError, match="no times were recorded; choose another kind"):
        RecordedArrivals().timestamps(workload([[1], [1]]))


def test_labels_are_those_of_the_paper():
    assert TypingArrivals(sessions_per_second=0.25).label == "sps=0.25"
    assert TypingArrivals(sessions_per_second=10).label == "sps=10"
    assert PoissonArrivals(sessions_per_second=1.0, mean_response_time=5).label == "sps=1_art=5"
    assert PoissonArrivals(sessions_per_second=2, mean_response_time=7.5).label == "sps=2_art=7.5"
    assert RecordedArrivals().label == "recorded"


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "typing", "sessions_per_second": 0},
        {"kind": "typing", "sessions_per_second": "nan"},
        {"kind": "poisson", "sessions_per_second": 1},
        {"kind": "poisson", "sessions_per_second": 1, "mean_response_time": -1},
        {"kind": "typing", "sessions_per_second": 1, "mean_response_time": 5},
        {"kind": "bursts", "sessions_per_second": 1},
        {"kind": "recorded", "sessions_per_second": 1},
    ],
)
def test_impossible_arrivals_are_refused(wrong):
    with pytest.raises(ValidationError):
        TypeAdapter(Arrivals).validate_python(wrong)
