"""Trace files: what is written is read back, and damage is named with file and line."""

import gzip
import json
import lzma
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marconi_core.errors import TraceError
from marconi_core.traces import reading
from marconi_core.traces.jsonl import read_requests, read_trace, write_trace
from marconi_core.traces.trace import Request, Trace

TOKENS = st.lists(st.integers(0, 2**31 - 1) | st.integers(0, 2), max_size=8)
REQUESTS = st.lists(
    st.builds(
        Request,
        session_id=st.integers(-5, 5) | st.text(max_size=3),
        turn_id=st.integers(0, 3),
        ts=st.floats(0, 1e6),
        input_tokens=TOKENS.filter(bool),
        output_tokens=TOKENS,
    ),
    min_size=1,
    max_size=8,
)


def line(**changes: object) -> str:
    row: dict[str, object] = {
        "session_id": 0,
        "turn_id": 1,
        "ts": 2.5,
        "num_input_tokens": 3,
        "num_output_tokens": 1,
        "input_tokens": [1, 5, 6],
        "output_tokens": [7],
    }
    return json.dumps(row | changes) + "\n"


@settings(max_examples=100, deadline=None)
@given(requests=REQUESTS)
def test_round_trip_keeps_every_value_and_the_order(tmp_path_factory, requests):
    path = tmp_path_factory.mktemp("trace") / "trace.jsonl"
    write_trace(Trace.build(requests), path)
    assert list(read_requests(path)) == requests


def test_the_line_is_what_json_dumps_writes(tmp_path):
    path = tmp_path / "trace.jsonl"
    write_trace(Trace.build([Request(0, 1, 2.5, [1, 5, 6], [7])]), path)
    assert path.read_text() == line()


@pytest.mark.parametrize(("suffix", "opener"), [(".gz", gzip.open), (".xz", lzma.open)])
def test_compressed_files_are_read(tmp_path, suffix, opener):
    path = tmp_path / f"trace.jsonl{suffix}"
    with opener(path, "wt") as file:
        file.write(line() + "\n" + line(turn_id=2, output_tokens=[], num_output_tokens=0))
    assert [(r.turn_id, r.output_tokens) for r in read_requests(path)] == [(1, [7]), (2, [])]
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(TraceError, match="cannot be read after line"):
        list(read_requests(path))


@pytest.mark.parametrize(
    ("second_line", "message"),
    [
        (line()[:40], r"trace\.jsonl:2: the line is cut off"),
        ("{'session_id': 0}\n", r"trace\.jsonl:2: not JSON"),
        ("<html>404</html>\n", r"trace\.jsonl:2: a web page"),
        ("[]\n", r"trace\.jsonl:2: the line: Input should be an object"),
        ("{}\n", r"trace\.jsonl:2: session_id.*: Field required"),
        (line(session_id=None), r":2: session_id"),
        (line(turn_id="1"), r":2: turn_id: Input should be a valid integer"),
        (line(turn_id=-1), r":2: turn_id: .*greater than or equal to 0"),
        (line(ts="soon"), r":2: ts: Input should be a valid number"),
        (line(ts=-0.5), r":2: ts: .*greater than or equal to 0"),
        (line(ts=float("nan")), r":2: ts: .*finite"),
        (line(ts=float("inf")), r":2: ts: .*finite"),
        (line(input_tokens=[], num_input_tokens=0), r":2: input_tokens: .*at least 1 item"),
        (line(input_tokens=[1, -5, 6]), r":2: input_tokens\.1: .*greater than or equal to 0"),
        (line(output_tokens=[2**31]), r":2: output_tokens\.0: .*less than or equal to 2147483647"),
        (line(input_tokens=[1, 5.5, 6]), r":2: input_tokens\.1: .*valid integer"),
        (line(input_tokens="156"), r":2: input_tokens: .*valid array"),
        (line(num_input_tokens=4), ":2: num_input_tokens is 4, but input_tokens has 3"),
        (line(num_output_tokens=0), ":2: num_output_tokens is 0, but output_tokens has 1"),
    ],
)
def test_a_bad_line_is_named_with_the_reason(tmp_path, second_line, message):
    path = tmp_path / "trace.jsonl"
    path.write_text(line() + second_line)
    requests = read_requests(path)
    next(requests)
    with pytest.raises(TraceError, match=message):
        next(requests)


def test_files_that_are_no_trace(tmp_path):
    with pytest.raises(TraceError, match=r"absent\.jsonl: cannot be read .*No such file"):
        read_trace(tmp_path / "absent.jsonl")
    empty = tmp_path / "empty.jsonl"
    empty.touch()
    with pytest.raises(TraceError, match=r"empty\.jsonl: the file is empty"):
        read_trace(empty)
    empty.write_text("\n\n")
    with pytest.raises(TraceError, match="the file is empty"):
        read_trace(empty)
    not_gzip = tmp_path / "trace.jsonl.gz"
    not_gzip.write_text(line())
    with pytest.raises(TraceError, match=r"trace\.jsonl\.gz: cannot be read"):
        read_trace(not_gzip)


def test_a_line_without_end_is_not_read_to_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "LIMIT_BYTES", 1000)
    path = tmp_path / "trace.jsonl"
    path.write_text(line() + "[" * 1001)
    requests = read_requests(path)
    next(requests)
    with pytest.raises(TraceError, match=r"trace\.jsonl:2: the line is longer than"):
        next(requests)
    path.write_text(line() + " " * (1000 - len(line())) + line())
    assert len(list(read_requests(path))) == 2


def test_numbers_that_no_column_holds(tmp_path):
    path = tmp_path / "trace.jsonl"
    for field, value in (("turn_id", 2**31), ("session_id", 2**63), ("session_id", -(10**30))):
        path.write_text(line(**{field: value}))
        with pytest.raises(TraceError, match=rf":1: {field}"):
            read_trace(path)


def test_a_million_wrong_tokens_are_one_mistake(tmp_path):
    path = tmp_path / "trace.jsonl"
    path.write_text(line(input_tokens=[-1] * 10**6, num_input_tokens=10**6))
    tracemalloc.start()
    with pytest.raises(TraceError, match=r":1: input_tokens\.0: "):
        list(read_requests(path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50e6  # a million mistakes take ten times that


def test_only_plain_files_are_written(tmp_path):
    with pytest.raises(TraceError, match="plain text"):
        write_trace(Trace.build([Request(0, 0, 0.0, [1], [])]), tmp_path / "trace.jsonl.xz")
    assert list(tmp_path.iterdir()) == []
