"""Compiled traces and workloads: what goes in comes out, in memory and on disk."""

import io
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from marconi_core.errors import TraceError
from marconi_core.traces import tree
from marconi_core.traces.trace import Request, SessionTokens, Trace, TurnTokens, Workload

REQUESTS = [
    Request("b", 0, 0.5, [5, 6, 7], [8]),
    Request("a", 0, 1.5, [5, 6], []),
    Request("b", 1, 2.5, [5, 6, 7, 8, 9], [1, 2]),
]
SESSIONS = [
    SessionTokens(
        7, [TurnTokens([1, 2], [3], 4, 0.5), TurnTokens([1, 2, 3, 4], [5], 6, 2.0)], drawn_turns=3
    ),
    SessionTokens(9, [], drawn_turns=1),
    SessionTokens(8, [TurnTokens([1], [2])], drawn_turns=1),
]


def requests_of(trace: Trace) -> list[Request]:
    return [
        Request(
            trace.session_ids[trace.session[i]],
            int(trace.turn[i]),
            float(trace.ts[i]),
            trace.input_tokens(i).tolist(),
            trace.output_tokens(i).tolist(),
        )
        for i in range(len(trace))
    ]


def test_trace_keeps_requests_in_order() -> None:
    trace = Trace.build(REQUESTS)
    assert requests_of(trace) == REQUESTS
    assert trace.n_in.tolist() == [3, 2, 5] and trace.n_out.tolist() == [1, 0, 2]


def test_workload_keeps_empty_sessions() -> None:
    workload = Workload.build(SESSIONS)
    assert workload.session_ids == (7, 9, 8)
    assert workload.session.tolist() == [0, 0, 2] and workload.turn.tolist() == [0, 1, 0]
    assert workload.user_words.tolist() == [4, 6, 0]
    assert workload.recorded_ts.tolist() == pytest.approx([0.5, 2.0, np.nan], nan_ok=True)
    assert workload.drawn_turns.tolist() == [3, 1, 1]


def test_schedule_sorts_by_time_and_keeps_ties() -> None:
    trace = Workload.build(SESSIONS).schedule(np.array([2.0, 3.0, 2.0]))
    assert trace.ts.tolist() == [2.0, 2.0, 3.0]
    assert [trace.session_ids[s] for s in trace.session] == [7, 8, 7]


@pytest.mark.parametrize("kind", ["trace", "workload"])
def test_files_round_trip_and_are_deterministic(kind: str, tmp_path: Path) -> None:
    compiled = Trace.build(REQUESTS) if kind == "trace" else Workload.build(SESSIONS)
    compiled.save(tmp_path / "one.npz")
    compiled.save(tmp_path / "two.npz")
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    loaded = type(compiled).load(tmp_path / "one.npz")
    assert loaded.digest() == compiled.digest()
    assert loaded.session_ids == compiled.session_ids


def test_digest_tells_traces_apart_and_nothing_else() -> None:
    trace = Trace.build(REQUESTS)
    other = REQUESTS[:2] + [Request("b", 1, 2.5, [5, 6, 7, 8, 9], [1, 3])]
    relabelled = [Request("c" if r.session_id == "a" else "b", r.turn_id, r.ts, r.input_tokens,
                          r.output_tokens) for r in REQUESTS]  # fmt: skip
    digests = {Trace.build(r).digest() for r in (other, relabelled, REQUESTS[:2], REQUESTS[::-1])}
    assert len(digests) == 4 and trace.digest() not in digests

    scheduled = Workload.build(SESSIONS).schedule(np.array([2.0, 3.0, 1.0]))
    rebuilt = Trace.build(requests_of(scheduled))
    assert rebuilt.session_ids != scheduled.session_ids  # order of appearance, or of the data set
    assert rebuilt.digest() == scheduled.digest()


def test_empty_traces_are_refused() -> None:
    with pytest.raises(TraceError, match="at least one"):
        Trace.build([])
    with pytest.raises(TraceError, match="at least one"):
        Workload.build(SESSIONS[1:2])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"PK\x03\x04 cut", "not a compiled file, or a damaged one"),
        (b"<html>", "not a compiled file, or a damaged one"),
        (b"", "not a compiled file, or a damaged one"),
    ],
)
def test_damaged_files_are_refused(content: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "trace.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TraceError, match=message):
        Trace.load(path)


def rewritten(path: Path, **changes: Any) -> Path:
    """Save a trace with some members of the file replaced; None leaves one out."""
    arrays = Trace.build(REQUESTS)._arrays() | {"format": np.array("marconi trace 1")} | changes
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            if array is not None:
                with archive.open(f"{name}.npy", "w") as member:
                    np.lib.format.write_array(member, np.asarray(array))
    return path


INTS = np.int32


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"turn": None}, "turn: missing"),
        ({"turn": np.array([0, 0, None])}, "turn: has type object"),
        ({"turn": np.array([0, 0, 1])}, "turn: has type int64"),
        ({"turn": np.zeros((3, 1), INTS)}, "turn: has 2 dimensions"),
        ({"turn": np.zeros(2, INTS)}, "turn: 2 entries, but 3 of session"),
        ({"turn": np.array([0, 0, -1], INTS)}, "turn: not all of 0"),
        ({"session": np.array([0, 2, 0], INTS)}, "session: not all of 0..1"),
        ({"session_ids": '["a", "a"]'}, "session_ids: not all different"),
        ({"session_ids": '["a", 1.5]'}, "session_ids: not a list of labels"),
        ({"session_ids": '["a", '}, "Expecting value"),
        ({"in_node": np.array([3, 0, 4], INTS)}, "in_node: not all of 1"),
        ({"in_node": np.array([3, 2**31 - 1, 4], INTS)}, "in_node: not all of 1"),
        ({"out_node": np.array([1, 1, 1], INTS)}, "out_node: a request does not begin"),
        ({"ts": np.array([0, 1, np.nan])}, "ts: a time is negative or no number"),
        ({"depth": np.zeros(1, np.int64)}, "depth: 1 entries, but 6 of parent"),
        ({"parent": np.array([0, 4, 1, 2, 3, 4], INTS)}, "no tree at node 1"),
        ({"tokens": np.array([5, 6, 7, 8, 9, 1], INTS)}, "no tree at node 5"),
        ({"tokens": -np.arange(7, dtype=INTS)}, "tokens: a token is negative"),
        ({"format": "marconi trace 2"}, "holds 'marconi trace 2', expected 'marconi trace 1'"),
        (
            dict.fromkeys(("session", "turn", "in_node", "out_node"), np.zeros(0, INTS)),
            "no requests",
        ),
    ],
)
def test_wrong_arrays_are_named(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = rewritten(tmp_path / "trace.npz", **changes)
    with pytest.raises(TraceError, match=rf"trace\.npz: .*{message}.*compile it again"):
        Trace.load(path)
    assert rewritten(path) and Trace.load(path).digest() == Trace.build(REQUESTS).digest()


def test_workloads_cannot_ask_for_more_draws_than_they_have_turns(tmp_path: Path) -> None:
    workload = Workload.build(SESSIONS)
    replace(workload, drawn_turns=np.array([3, 1, 2**31 - 1], np.int32)).save(tmp_path / "w.npz")
    with pytest.raises(TraceError, match="drawn_turns: neither the turns of a session nor one"):
        Workload.load(tmp_path / "w.npz")


def test_recorded_times_are_checked(tmp_path: Path) -> None:
    workload = Workload.build(SESSIONS)
    replace(workload, recorded_ts=np.array([0.5, -1.0, np.nan])).save(tmp_path / "w.npz")
    with pytest.raises(TraceError, match="recorded_ts: a time is negative or no number"):
        Workload.load(tmp_path / "w.npz")


def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "trace.npz"
    Trace.build(REQUESTS).save(path)
    content = bytearray(path.read_bytes())
    content[content.index(np.array([1.5]).tobytes())] ^= 1
    path.write_bytes(content)
    with pytest.raises(TraceError, match="Bad CRC-32"):
        Trace.load(path)


def test_files_that_promise_more_than_they_hold(tmp_path: Path) -> None:
    path = tmp_path / "trace.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("format.npy", b"0" * 10**8)
    assert path.stat().st_size < 10**6
    with pytest.raises(TraceError, match="format: compressed"):
        Trace.load(path)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<i4", "fortran_order": False, "shape": (10**14,)}
    )
    rewritten(path, turn=None)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("turn.npy", header.getvalue())
    with pytest.raises(TraceError, match=r"turn: has shape \(100000000000000,\), but 0 bytes"):
        Trace.load(path)


def test_trees_have_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "MAX_TOKENS", 100)
    with pytest.raises(TraceError, match="more than 100 different tokens"):
        Trace.build(Request(i, 0, 0.0, [i] * 10, [1]) for i in range(10))


def test_another_kind_of_file_is_named(tmp_path: Path) -> None:
    Workload.build(SESSIONS).save(tmp_path / "w.npz")
    with pytest.raises(TraceError, match="holds 'marconi workload 1', expected 'marconi trace 1'"):
        Trace.load(tmp_path / "w.npz")


def test_an_interrupted_save_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **keywords: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(KeyboardInterrupt):
        Trace.build(REQUESTS).save(tmp_path / "trace.npz")
    assert list(tmp_path.iterdir()) == []
