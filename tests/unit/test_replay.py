"""The replay client, against a simulated server in this process."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from marconi_core.errors import DataError
from marconi_core.models.latency import BatchTimes, PrefillLatency
from marconi_core.plots.live import draw
from marconi_core.plots.ttft import table as ttft_table
from marconi_core.replay.options import ReplayOptions
from marconi_core.replay.recording import (
    is_complete,
    outputs,
    partial_path,
    record_replay,
    replayed,
)
from marconi_core.replay.rows import ReplayRow, read_rows, write_rows
from marconi_core.replay.run import replay, warm_up
from marconi_core.replay.summary import render, summarize
from marconi_core.report.live import page, requests, table
from marconi_core.report.page import to_markdown
from marconi_core.report.predicted import read_predictions
from marconi_core.serving.__main__ import main
from marconi_core.serving.client import Client
from marconi_core.serving.errors import ReplayError, ServingError
from marconi_core.serving.recordings import SIMULATED, read_recordings, recorded_files
from marconi_core.sim.server import STOCK, PoolSizes, ServerSimulator, most_running
from marconi_core.sim.server.batching import BatchingServer
from marconi_core.traces.prompts import Prompts
from marconi_core.traces.trace import Request, Trace
from tests.unit.simulated_server import serving

POOLS = PoolSizes(4000, 30)
SLOW: dict[str, Any] = {"times": BatchTimes(PrefillLatency(40, 0, 0), token_ms=5), "speed": 1}


def conversations(sessions: int = 5, turns: int = 4, gap_s: float = 0.05) -> Trace:
    """Interleaved conversations with a common beginning, a request each `gap_s` seconds."""
    draw = random.Random(1)
    histories = {s: [7, 8, 9] * 20 for s in range(sessions)}
    requests = []
    for turn in range(turns):
        for session, history in histories.items():
            prompt = history + draw.choices(range(10_000), k=20)
            output = draw.choices(range(10_000), k=draw.randint(2, 8))
            requests.append(Request(session, turn, len(requests) * gap_s, prompt, output))
            histories[session] = prompt + output
    return Trace.build(requests)


def stock() -> BatchingServer:
    return BatchingServer(ServerSimulator(POOLS, STOCK), most_running("no_buffer", POOLS.states))


def options(**fields: object) -> ReplayOptions:
    return ReplayOptions.of({"concurrency": 1, **fields})


@pytest.fixture(scope="module")
def trace() -> Trace:
    return conversations()


@pytest.fixture
def client() -> Iterator[Client]:
    with serving(stock()) as client:
        yield client


# --- what is sent


def test_replies_take_the_place_of_recorded_outputs_wherever_they_are() -> None:
    history = [1, 2, 3]
    first, second = [*history, 10, 11], [*history, 10, 11, 50, 51, 52, 20]
    # an agent that forgets the end of its own reply; another session that has it by chance
    trace = Trace.build(
        [
            Request("a", 0, 0, first, [50, 51, 52]),
            Request("a", 1, 1, second, [60]),
            Request("a", 2, 2, [*first, 50, 51, 30], [70]),
            Request("b", 0, 3, [*history, 40], [50, 51, 52]),
        ]
    )
    prompts = Prompts(trace)
    assert prompts.tokens(1).tolist() == second
    assert prompts.text(1) == ",".join(map(str, second))
    prompts.replace(0, [500, 510, 520])
    assert prompts.tokens(1).tolist() == [*first, 500, 510, 520, 20]
    assert prompts.text(1) == "1,2,3,10,11,500,510,520,20"
    assert prompts.tokens(2).tolist() == [*first, 500, 510, 30]
    assert prompts.tokens(3).tolist() == [*history, 40]
    assert prompts.repeated == 0


@pytest.mark.parametrize("output", [[3, 4], [3, 5], [6, 7]])
def test_prompts_that_were_sent_before_are_counted(output: list[int]) -> None:
    requests = [([1, 2], [3, 4]), ([1, 2], output), ([1, 2, 3], [4])]
    trace = Trace.build([Request(s, 0, s, *tokens) for s, tokens in enumerate(requests)])
    prompts = Prompts(trace)
    prompts.replace(0, [30, 40])
    assert prompts.repeated == 0
    prompts.replace(1, [31, 41])
    assert prompts.repeated == 1
    prompts.replace(2, [50])  # it sits where the end of the first reply does
    assert prompts.repeated == 2
    assert prompts.tokens(2).tolist() == [1, 2, 30]


@pytest.mark.parametrize("outputs", ["substituted", "forced"])
def test_one_at_a_time_hits_are_the_simulators(outputs: str, trace: Trace, client: Client) -> None:
    rows = replay(trace, client, options(outputs=outputs))
    simulator = ServerSimulator(POOLS, STOCK)
    predicted = [
        simulator.serve(trace.input_tokens(i), trace.output_tokens(i)).hit
        for i in range(len(trace))
    ]
    assert [row.cached_tokens for row in rows] == predicted and sum(predicted) > 0
    assert [row.prompt_tokens for row in rows] == trace.n_in.tolist()
    assert [row.output_tokens for row in rows] == trace.n_out.tolist()
    assert [(row.request, row.session, row.turn) for row in rows] == list(
        zip(range(len(trace)), trace.session.tolist(), trace.turn.tolist(), strict=True)
    )
    assert all(not row.error for row in rows)


def test_the_cache_is_emptied_before_and_warmup_leaves_no_rows(
    trace: Trace, client: Client
) -> None:
    seen: list[ReplayRow] = []
    cold = replay(trace, client, options(requests=6))
    warm_up(trace, client, options(requests=6, warmup=20))
    warm = replay(trace, client, options(requests=6), seen.append)
    assert [row.cached_tokens for row in warm] == [row.cached_tokens for row in cold]
    assert sorted(seen) == warm and len(warm) == 6


# --- when it is sent


def test_arrival_times_are_respected_and_faster_by_the_factor(trace: Trace, client: Client) -> None:
    rows = replay(trace, client, ReplayOptions(speed=2, loop="open"))
    wanted = (trace.ts - trace.ts[0]) / 2
    assert np.allclose([row.scheduled_s for row in rows], wanted, atol=1e-5)
    assert all(row.due_s == row.scheduled_s <= row.sent_s for row in rows)
    assert np.median([row.sent_s - row.due_s for row in rows]) < 0.02
    assert all(row.sent_s < row.first_token_s <= row.end_s for row in rows)
    assert all(row.ttft_ms == pytest.approx(1e3 * (row.first_token_s - row.sent_s), abs=2e-3)
               for row in rows)  # fmt: skip


def previous(rows: list[ReplayRow]) -> list[tuple[ReplayRow, ReplayRow]]:
    """Each row with the one before it in its session."""
    at = {(row.session, row.turn): row for row in rows}
    return [(row, at[row.session, row.turn - 1]) for row in rows if row.turn]


def test_a_turn_waits_in_a_closed_loop_only() -> None:
    trace = conversations(sessions=2, turns=3, gap_s=0.01)
    with serving(stock(), **SLOW) as client:
        closed = replay(trace, client, ReplayOptions(speed=1, loop="closed"))
        opened = replay(trace, client, ReplayOptions(speed=1, loop="open", outputs="forced"))
    assert all(row.sent_s >= before.end_s for row, before in previous(closed))
    assert all(row.due_s == before.end_s for row, before in previous(closed))
    assert any(row.sent_s < before.end_s for row, before in previous(opened))
    assert len(previous(closed)) == 4


def most_in_flight(rows: list[ReplayRow]) -> int:
    events = sorted([(row.sent_s, 1) for row in rows] + [(row.end_s, -1) for row in rows])
    return int(np.cumsum([change for _, change in events]).max())


@pytest.mark.parametrize("slots", [1, 3])
def test_concurrency_is_used_and_never_exceeded(slots: int, trace: Trace) -> None:
    with serving(stock(), **SLOW) as client:
        rows = replay(trace, client, options(concurrency=slots, requests=10))
    assert most_in_flight(rows) == slots
    if slots == 1:
        assert [row.sent_s for row in rows] == sorted(row.sent_s for row in rows)


def test_a_free_slot_goes_to_the_first_of_the_trace_that_may_go() -> None:
    trace = conversations(sessions=3, turns=2)
    with serving(stock(), **SLOW) as client:
        rows = replay(trace, client, options(concurrency=2))
    order = [row.request for row in sorted(rows, key=lambda row: row.sent_s)]
    assert order == [0, 1, 2, 3, 4, 5]


def test_a_slow_request_delays_no_other(trace: Trace) -> None:
    rows: list[ReplayRow] = []
    with serving(stock(), "hang@3") as client, pytest.raises(ServingError, match="too long"):
        replay(trace, client, ReplayOptions(speed=1, loop="open", timeout_s=1.5), rows.append)
    in_time = [row for row in rows if not row.error]
    assert len(in_time) == len(trace) - 1
    assert np.percentile([row.sent_s - row.scheduled_s for row in in_time], 90) < 0.02
    (failed,) = [row for row in rows if row.error]
    assert failed.request == 2 and failed.ttft_ms == 0 and failed.end_s - failed.sent_s >= 1.5


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "give speed, concurrency or both"),
        ({"speed": 0}, "speed: Input should be greater than 0"),
        ({"concurrency": 2, "outputs": "made up"}, "outputs: Input should be 'substituted'"),
        ({"concurrency": 2, "slots": 3}, "slots: unknown field; there are speed, "),
    ],
)
def test_wrong_options_are_named(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ReplayError, match=message):
        ReplayOptions.of(fields)


# --- when something fails


def recorded(trace: Trace, client: Client, how: ReplayOptions, output: Path) -> list[ReplayRow]:
    replaying = partial(replay, trace, client, how)
    return record_replay(trace, how, output, {"label": "simulated server"}, replaying)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("error@5", "HTTP 500 .*a fault was asked for"),
        ("disconnect@5", "broke off|Payload|Disconnected|reset"),
        ("hang@5", "nothing came for too long"),
    ],
)
def test_a_failure_ends_the_replay_and_keeps_marked_rows(
    fault: str, message: str, trace: Trace, tmp_path: Path
) -> None:
    output = tmp_path / "trace.csv"
    with serving(stock(), fault) as client, pytest.raises(ServingError, match=message):
        recorded(trace, client, options(timeout_s=0.5), output)
    rows = [json.loads(line) for line in partial_path(output).read_text().splitlines()]
    assert [bool(row["error"]) for row in rows] == [False] * 4 + [True]
    described = json.loads(output.with_suffix(".json").read_text())
    assert (described["requests"], described["requests_planned"]) == (4, len(trace))
    assert described["ended_by"] == rows[-1]["error"]
    assert "summary" not in described and not output.exists()
    assert not is_complete(output, {})


def test_requests_in_flight_are_marked_when_another_fails(trace: Trace) -> None:
    rows: list[ReplayRow] = []
    with (
        serving(stock(), "error@3", **SLOW) as client,
        pytest.raises(ServingError, match="HTTP 500"),
    ):
        replay(trace, client, options(concurrency=3), rows.append)
    assert sorted(row.error.split(":")[0] for row in rows)[:2] == ["cut short", "cut short"]
    assert sum("HTTP 500" in row.error for row in rows) == 1


def test_a_trace_without_outputs_is_refused() -> None:
    trace = Trace.build([Request(0, 0, 0, [1], [2]), Request(1, 0, 1, [3], [])])
    with pytest.raises(ReplayError, match="request 1 of the trace has no output tokens"):
        replay(trace, Client(1), options())


def test_no_server_is_said(trace: Trace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("marconi_core.serving.client.FLUSH_PATIENCE_S", 0.1)
    with pytest.raises(ServingError, match="ConnectionRefused"):
        replay(trace, Client(1), options())


def test_a_prompt_that_is_too_long_is_the_servers_error(trace: Trace) -> None:
    with (
        serving(stock(), context_length=100) as client,
        pytest.raises(ServingError, match=r"HTTP 400 .*longer than the model's context of 100"),
    ):
        replay(trace, client, options())


# --- files


@pytest.fixture
def virtually(trace: Trace, tmp_path: Path) -> list[str]:
    """Words that replay a trace in virtual time, on a server that is yet to be named."""
    trace.save(tmp_path / "talk.npz")
    words = ["replay", "--virtual", "--trace", str(tmp_path / "talk.npz"), "--concurrency", "2"]
    words += ["--output", str(tmp_path / "out"), "--variant", "marconi", "--model", "nemotron_h_8b"]
    return words


SIMULATED_SERVER = ("--set", "server=simulated", "--set", "max_mamba_cache_size=9")


def test_a_replay_in_virtual_time_is_written_down_the_same_way(
    virtually: list[str], trace: Trace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = virtually
    assert main(words) == 2
    assert (
        "--virtual is for simulated servers: add --set server=simulated" in capsys.readouterr().err
    )
    words += SIMULATED_SERVER
    assert main(words) == 0
    assert "marconi, in virtual time" in capsys.readouterr().out
    rows = read_rows(tmp_path / "out/talk.csv")
    assert len(rows) == len(trace) and sum(row.cached_tokens for row in rows) > 0
    [recording] = read_recordings([tmp_path / "out/talk.csv"])
    assert recording.complete and recording.server == SIMULATED
    assert (recording.states, recording.running_requests) == (9, 3)
    assert main(words) == 0 and "replayed already" in capsys.readouterr().out


def test_a_replay_in_virtual_time_has_no_date(virtually: list[str], tmp_path: Path) -> None:
    """Its table is the same on any day, and is drawn as a measured one."""
    assert main([*virtually, *SIMULATED_SERVER]) == 0
    recordings = list(read_recordings([tmp_path / "out/talk.csv"]))
    assert "date" not in recordings[0].description
    found = table(recordings, read_predictions([]))
    found.to_csv(tmp_path / "table.csv", index=False)
    assert list(found["date"]) == [""] and list(requests(recordings)["date"].unique()) == [""]
    again = pd.read_csv(tmp_path / "table.csv")
    nothing = pd.DataFrame()
    replays = list(
        page(
            "",
            again,
            requests(recordings),
            nothing,
            ttft_table(read_recordings(recorded_files("ttft"))),
            nothing,
            [],
        )
    )[2]
    assert replays.table is not None and "nan" not in to_markdown([replays])
    assert draw(again).axes


def test_a_replay_in_virtual_time_is_not_taken_for_a_served_one(
    virtually: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*virtually, *SIMULATED_SERVER]
    description = tmp_path / "out/talk.json"
    assert main(words) == 0
    virtual = json.loads(description.read_text())
    assert main([word for word in words if word != "--virtual"]) == 2
    assert "holds a replay with another clock; name another file" in capsys.readouterr().err
    served = {key: value for key, value in virtual.items() if key != "clock"}
    description.write_text(json.dumps(served))  # as recordings were before there was a choice
    assert main(words) == 2 and "another clock" in capsys.readouterr().err
    assert main([word for word in words if word != "--virtual"]) == 0
    assert "replayed already" in capsys.readouterr().out


@pytest.mark.parametrize("other", [{"code": "another"}, {"times": {"token_ms": 1}}])
def test_other_code_and_times_replay_again_in_virtual_time_only(
    other: dict[str, object],
    virtually: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = [*virtually, *SIMULATED_SERVER]
    description = tmp_path / "out/talk.json"
    assert main(words) == 0
    first = json.loads(description.read_text())
    capsys.readouterr()
    for clock, said in (("virtual", "in virtual time"), ("real", "replayed already")):
        description.write_text(json.dumps({**first, **other, "clock": clock}))
        assert main([word for word in words if clock == "virtual" or word != "--virtual"]) == 0
        assert said in capsys.readouterr().out
        assert (json.loads(description.read_text()) == first) == (clock == "virtual")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (["extra_flags=--simulated-fault die@3"], "--simulated-fault: in virtual time there is no"),
        (["extra_flags=--simulated-fault=die@3"], "--simulated-fault: in virtual time there is no"),
        (
            ["extra_flags=--simulated-gpu 'my GPU'"],
            "on 1 'my GPU', only on NVIDIA H100 80GB HBM3 (2026-11-24-h100), ",
        ),
        (["extra_flags=--simulated-gup A100"], "unknown option --simulated-gup"),
        (["extra_flags=--simulated-speed fast"], "invalid float value: 'fast'"),
        (
            ["tensor_parallel=2"],
            "'marconi' or 'extra_buffer', on 2 'NVIDIA H100 80GB HBM3', only on",
        ),
        (["model=falcon_h1_7b"], "of 'falcon_h1_7b', 'marconi' or 'extra_buffer', on 1 'NVIDIA"),
        (["extra_flags=--simulated-gpu 'my GPU"], "No closing quotation; quote words that have"),
        (["sglang=0.5.6.post2"], "only SGLang 0.5.16 is simulated batch by batch, not 0.5.6.post2"),
        (["context_length=100"], "request 5 of the trace: 102 prompt and 2 output"),
    ],
)
def test_what_a_server_would_not_do_is_refused_in_virtual_time(
    fields: list[str], message: str, virtually: list[str], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert main([*virtually, *SIMULATED_SERVER, *fields]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_all_traces_are_looked_at_before_the_first_is_replayed(
    virtually: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Trace.build([Request(0, 0, 0, [1], [2]), Request(1, 0, 1, [3], [])]).save(tmp_path / "b.npz")
    words = [*virtually, *SIMULATED_SERVER]
    words.insert(words.index("--concurrency"), str(tmp_path / "b.npz"))
    assert main(words) == 2
    assert "request 1 of the trace: a request needs at least one" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main([*words, "--requests", "1"]) == 0


def test_an_interrupted_replay_starts_over_and_a_complete_one_is_kept(
    trace: Trace, tmp_path: Path
) -> None:
    output, how = tmp_path / "a" / "trace.csv", options(requests=8)
    wanted = {"label": "simulated server", **replayed(trace, how)}
    for faults in (("error@5",), ()):
        assert not is_complete(output, wanted)
        with serving(stock(), *faults) as client:
            try:
                rows = recorded(trace, client, how, output)
            except ServingError:
                assert partial_path(output).exists()
    assert is_complete(output, wanted) and not partial_path(output).exists()
    assert read_rows(output) == rows and len(rows) == 8
    described = json.loads(output.with_suffix(".json").read_text())
    assert described["summary"] == json.loads(json.dumps(summarize(rows)._asdict()))
    assert described["requests"] == described["requests_planned"] == 8
    with pytest.raises(ReplayError, match="a replay with another options; name another file"):
        is_complete(output, {**wanted, **replayed(trace, options(requests=8, concurrency=2))})


def test_repeats_have_files_of_their_own(tmp_path: Path) -> None:
    assert outputs(tmp_path, "t") == [tmp_path / "t.csv"]
    assert outputs(tmp_path, "t", 2) == [tmp_path / "t-1.csv", tmp_path / "t-2.csv"]


def row(request: int, sent: float, ttft: float, end: float, **fields: object) -> ReplayRow:
    base = ReplayRow(
        request, 0, request, 100, 25 * request, 10, 0.0, sent, sent, sent + ttft, end, 1e3 * ttft
    )
    return base._replace(**fields)  # type: ignore[arg-type]


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    write_rows([row(1, 1, 1, 3), row(0, 0, 1, 2)], path)
    assert [r.request for r in read_rows(path)] == [0, 1]
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], lines[2].replace("25", "x")]))
    with pytest.raises(ReplayError, match=r"r\.csv:3: invalid literal"):
        read_rows(path)
    path.write_text("request,variant\n")
    with pytest.raises(ReplayError, match=r"r\.csv:1: not a replay; its columns are request"):
        read_rows(path)
    with pytest.raises(ReplayError, match=r"none\.csv: No such file"):
        read_rows(tmp_path / "none.csv")


def test_the_summary_is_over_requests_without_error() -> None:
    rows = [
        row(0, 0.0, 0.1, 1.0), row(1, 0.5, 0.3, 2.0, due_s=0.4), row(2, 1.0, 0.2, 4.0),
        row(3, 1.0, 0.0, 9.0, error="HTTP 500"),
    ]  # fmt: skip
    summary = summarize(rows)
    assert (summary.requests, summary.errors, summary.duration_s) == (3, 1, 4.0)
    assert summary.token_hit_rate == pytest.approx(75 / 300)
    assert (summary.ttft_p50_ms, summary.ttft_p95_ms) == (200.0, pytest.approx(290))
    assert summary.input_tokens_per_s == 75 and summary.output_tokens_per_s == 7.5
    assert summary.mean_in_flight == pytest.approx((1 + 1.5 + 3) / 4)
    assert summary.jitter_max_ms == pytest.approx(100)
    assert "token hit rate 25.00 %" in render(summary)
    assert summarize(rows[3:])[:2] == (0, 1)


def test_traces_are_told_apart_by_their_names(
    trace: Trace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two parts of a trace are no repeats; two files of one name would be one recording."""
    for name in ("talk-1.npz", "talk-2.npz", "other/talk-1.npz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        trace.save(tmp_path / name)
    words = ["replay", "--virtual", "--variant", "no_buffer", "--model", "nemotron_h_8b"]
    words += ["--concurrency", "2", "--output", str(tmp_path / "out"), *SIMULATED_SERVER, "--trace"]
    assert main([*words, str(tmp_path / "talk-1.npz"), str(tmp_path / "talk-2.npz")]) == 0
    found = read_recordings(sorted((tmp_path / "out").glob("*.csv")))
    assert [recording.trace for recording in found] == ["talk-1", "talk-2"]
    assert main([*words, str(tmp_path / "talk-1.npz"), str(tmp_path / "other/talk-1.npz")]) == 2
    assert "several files are called talk-1" in capsys.readouterr().err
    assert main([*words, str(tmp_path / "talk-1.npz"), "--repeats", "0"]) == 2
    assert "--repeats: 0 is less than 1" in capsys.readouterr().err


def test_a_server_that_is_gone_afterwards_does_not_spoil_the_rows(
    trace: Trace, tmp_path: Path
) -> None:
    def after() -> dict[str, object]:
        raise ServingError("GET /server_info: refused")

    options, output = ReplayOptions(concurrency=1), tmp_path / "talk.csv"
    rows = [ReplayRow(0, 0, 0, 10, 0, 1, 0.0, 0.0, 0.0, 0.1, 0.2, 100.0)]
    record_replay(trace, options, output, {}, lambda keep: rows * len(trace), after)
    assert is_complete(output, {}) and not partial_path(output).exists()
    assert "refused" in json.loads(output.with_suffix(".json").read_text())["not_told"]
    output.with_suffix(".json").write_text("{")
    with pytest.raises(DataError, match=r"talk\.json: says not where"):
        is_complete(output, {})


# --- the command line, with the server as a process


def command(folder: Path, trace: Trace, *more: str, flags: str = "") -> list[str]:
    trace.save(folder / "talk.npz")
    words = [
        sys.executable,
        "-m",
        "marconi_core.serving",
        "replay",
        "--variant",
        "marconi_no_buffer",
    ]
    words += ["--model", "nemotron_h_8b", "--trace", str(folder / "talk.npz")]
    words += ["--output", str(folder / "out"), "--log", str(folder / "server.log"), *more]
    return [*words, "--set", "server=simulated", f"extra_flags=--simulated-speed 50 {flags}"]


def run(words: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, timeout=120)


def test_the_command_says_what_its_numbers_are(trace: Trace, tmp_path: Path) -> None:
    words = command(tmp_path, trace, "--concurrency", "2", "--repeats", "2", "--outputs", "forced")
    done = run(words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("simulated server, nemotron-h-8b, marconi_no_buffer") == 2
    for number in (1, 2):
        assert len(read_rows(tmp_path / "out" / f"talk-{number}.csv")) == len(trace)
        described = json.loads((tmp_path / "out" / f"talk-{number}.json").read_text())
        assert described["label"].startswith("simulated server")
        assert described["weights"] == "none" and described["spec"]["server"] == "simulated"
        assert described["host_pace"]["median_ms"] > 0
    again = run(words)
    assert (again.returncode, again.stdout) == (0, "replayed already\n")


def test_a_server_that_dies_is_the_error(trace: Trace, tmp_path: Path) -> None:
    done = run(command(tmp_path, trace, "--concurrency", "2", flags="--simulated-fault die@6"))
    assert done.returncode == 2
    assert "the server ended with status 9 while in use" in done.stderr
    assert "a fault was asked for: this server ends" in done.stderr
    rows = partial_path(tmp_path / "out" / "talk.csv").read_text().splitlines()
    assert sum(not json.loads(line)["error"] for line in rows) >= 4
    assert not (tmp_path / "out" / "talk.csv").exists()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_rows_survive_a_kill(number: signal.Signals, tmp_path: Path) -> None:
    words = command(tmp_path, conversations(gap_s=1.0), "--speed", "5")
    partial = partial_path(tmp_path / "out" / "talk.csv")
    with subprocess.Popen(
        words,
        stderr=subprocess.DEVNULL,
        # a test run in the background has inherited that Ctrl-C is ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as running:
        deadline = time.monotonic() + 60
        while not (partial.exists() and partial.read_text().count("\n") >= 3):
            assert time.monotonic() < deadline and running.poll() is None
            time.sleep(0.05)
        os.kill(running.pid, number)
    assert running.returncode in (-signal.SIGKILL, 130)
    rows = [json.loads(line) for line in partial.read_text().splitlines()]
    assert sum(not row["error"] for row in rows) >= 3
    described = json.loads((tmp_path / "out" / "talk.json").read_text())
    assert described["requests"] < described["requests_planned"] == 20
    if number == signal.SIGINT:
        assert described["ended_by"] == "KeyboardInterrupt"
    assert not is_complete(tmp_path / "out" / "talk.csv", {})
