"""Shares of known prefixes against a naive comparison of tokens, and the output for people."""

import hashlib
import json
from itertools import takewhile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marconi_core.plots.style import save
from marconi_core.plots.trace import draw
from marconi_core.traces.describe import describe, shared_prefixes
from marconi_core.traces.trace import Request, Trace

TOKENS = st.lists(st.integers(1, 2), max_size=6)
REQUESTS = st.lists(
    st.builds(
        Request,
        session_id=st.integers(0, 2),
        turn_id=st.just(0),
        ts=st.just(0.0),
        input_tokens=TOKENS.filter(bool),
        output_tokens=TOKENS,
    ),
    min_size=1,
    max_size=12,
)


def common_prefix(a: list[int], b: list[int]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))


def longest_known(requests: list[Request], same_session: bool) -> list[int]:
    known = []
    for i, request in enumerate(requests):
        earlier = [
            common_prefix([*e.input_tokens, *e.output_tokens], list(request.input_tokens))
            for e in requests[:i]
            if (e.session_id == request.session_id) == same_session
        ]
        known.append(max(earlier, default=0))
    return known


@settings(max_examples=200, deadline=None)
@given(requests=REQUESTS)
def test_shared_prefixes_equal_a_naive_comparison(requests):
    same, other = shared_prefixes(Trace.build(requests))
    assert same.tolist() == longest_known(requests, same_session=True)
    assert other.tolist() == longest_known(requests, same_session=False)


@pytest.fixture
def trace() -> Trace:
    return Trace.build(
        [
            Request("a", 0, 1.0, [1, 2, 3, 4], [5]),
            Request("b", 0, 2.0, [1, 2, 9, 9], []),
            Request("a", 1, 4.5, [1, 2, 3, 4, 5, 6, 7, 8], [9, 9, 9]),
        ]
    )


def test_summary(trace):
    summary = describe(trace)
    assert (summary.requests, summary.sessions, summary.duration_s) == (3, 2, 3.5)
    assert (summary.input_tokens, summary.output_tokens) == (16, 4)
    assert summary.input_quantiles == {5: 4, 25: 4, 50: 4, 75: 6, 95: 7, 100: 8}
    assert summary.shared_same_session == 5 / 16
    assert summary.shared_other_session == (2 + 2) / 16


def test_summary_for_machines_and_people(trace):
    summary = describe(trace)
    assert json.loads(json.dumps(summary.to_dict()))["shared_same_session"] == 5 / 16
    text = summary.to_text()
    assert "31.2 %" in text
    assert "4 / 4 / 4 / 6 / 7 / 8" in text
    assert len({line.index("  ") for line in text.splitlines()}) > 1  # columns are padded


@pytest.mark.parametrize("suffix", [".svg", ".pdf", ".png"])
def test_plot_gives_the_same_bytes_each_time(trace, tmp_path, suffix):
    digests = set()
    for name in ("first", "second"):
        path = tmp_path / f"{name}{suffix}"
        save(draw(trace, "a trace"), path)
        digests.add(hashlib.sha256(path.read_bytes()).hexdigest())
    assert len(digests) == 1
    assert len(list(tmp_path.iterdir())) == 2
