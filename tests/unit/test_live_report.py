"""Tables, figures and verdicts from recorded and simulated measurements."""

import json
import re
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from marconi_core.assets import resource
from marconi_core.errors import DataError
from marconi_core.plots import live as live_plot
from marconi_core.plots import ttft as ttft_plot
from marconi_core.plots.style import save
from marconi_core.policies.two_pool import BRANCH_GAIN
from marconi_core.replay.rows import ReplayRow, write_rows
from marconi_core.report import live, live_claims
from marconi_core.report.page import to_markdown
from marconi_core.report.predicted import (
    PREDICTED,
    Prediction,
    main,
    read_predictions,
)
from marconi_core.report.roles import Role
from marconi_core.rules.live import csv_files, recorded_checklists
from marconi_core.serving import recordings
from marconi_core.serving.parity import ParityRow
from marconi_core.serving.recorded_times import (
    REFERENCE_GPU,
    NoTimesError,
    batch_times,
    latest_ttft,
)
from marconi_core.serving.recordings import SIMULATED, read_recordings, recorded_files
from marconi_core.serving.simulated.flags import server_of
from marconi_core.serving.spec import STRATEGIES, ServerSpec
from marconi_core.sim.server import PoolSizes, ServerSimulator
from marconi_core.traces.trace import Request, Trace

STOCK = tuple(STRATEGIES)
GPU = [{"name": "Test GPU"}]
LOAD = "8 in flight, closed loop, outputs substituted, SGLang 0.5.16"
ROLES = [Role("chats", "sharegpt", False), Role("chats_long", "lmsys", True)]


def record(
    folder: Path, name: str, ttft_ms: list[float], cached: int = 50, **description: Any
) -> Path:
    """A complete replay of prompts of 100 tokens."""
    variant = description.pop("variant", "marconi")
    spec = {"variant": variant, "model": "nemotron_h_8b", "alpha": description.pop("alpha", None)}
    spec |= {"sglang": "0.5.16"} | description.pop("spec", {})
    spec.setdefault("served_name", spec["model"])
    options = {"speed": None, "concurrency": 8, "loop": "closed", "outputs": "substituted"}
    options |= description.pop("options", {})
    rows = [
        ReplayRow(i, 0, i, 100, cached, 4, 0.0, float(i), i + 0.001, i + 0.1, i + 0.5, ttft)
        for i, ttft in enumerate(ttft_ms)
    ]
    path = folder / f"{name}.csv"
    folder.mkdir(parents=True, exist_ok=True)
    write_rows(rows, path)
    content = {
        "weights": "random", "date": "2026-11-24T06:14:26+00:00", "devices": GPU,
        "spec": spec, "options": options, "pools": {"states": 40, "kv_tokens": 9000},
        "requests": len(rows), "requests_planned": len(rows), **description,
    }  # fmt: skip
    path.with_suffix(".json").write_text(json.dumps(content), encoding="utf-8")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    record(tmp_path / "none", "chats-1", [200, 200], cached=0, variant="no_cache")
    record(tmp_path / "stock", "chats-1", [150, 150], cached=20, variant="no_buffer")
    record(tmp_path / "lru", "chats-1", [140, 140], cached=30, variant="admission_only")
    for repeat, ttft in enumerate(([80, 80], [90, 90], [200, 200]), start=1):
        record(tmp_path / "marconi", f"chats-{repeat}", ttft)  # type: ignore[arg-type]
    record(tmp_path / "fixed", "chats-1", [100, 100], cached=40, alpha=0.5)
    return tmp_path


def table(folder: Path) -> pd.DataFrame:
    recordings = list(read_recordings(csv_files([str(folder)])))
    return live.table(recordings, read_predictions([folder]), ROLES)


def test_repeats_give_medians_and_their_range(folder: Path) -> None:
    replays = table(folder)
    assert list(replays["variant"]) == [
        "no_cache", "no_buffer", "admission_only", "marconi", "marconi@0.5",
    ]  # fmt: skip
    marconi = replays.set_index("variant").loc["marconi"]
    assert (marconi["repeats"], marconi["requests"]) == (3, 2)
    assert (marconi["ttft_p95_low_ms"], marconi["ttft_p95_ms"], marconi["ttft_p95_high_ms"]) == (
        80, 90, 200,
    )  # fmt: skip
    assert marconi["token_hit_rate"] == 0.5
    assert (marconi["server"], marconi["load"]) == ("Test GPU, random weights", LOAD)
    assert (marconi["trace"], marconi["dataset"], marconi["data"]) == ("chats", "chats", "ShareGPT")
    assert np.isnan(marconi["predicted_token_hit_rate"])


def claims(folder: Path) -> pd.DataFrame:
    rows = live.requests(read_recordings(csv_files([str(folder)])))
    return live_claims.claims(table(folder), rows)


def beside(folder: Path, baseline: str, data: str = "ShareGPT") -> pd.Series:
    """Return the row of the claims that is about a baseline and a data set."""
    rows = claims(folder).set_index(["P95 TTFT lower than", "data"])
    found: pd.Series = rows.loc[baseline, data]
    return found


SGLANG = "SGLang+ (admission only)"


def test_claims_are_judged_by_the_numbers_of_their_data_set(folder: Path) -> None:
    sglang = beside(folder, SGLANG)
    assert sglang["here, up to"].startswith(
        "25.0 % (25 to 25) of no cache: 35.7 % of admission_only, 50 ms, marconi; chats; 40 states; "
    )
    assert LOAD in sglang["here, up to"] and sglang["server"] == "Test GPU, random weights"
    assert (sglang["paper, up to"], sglang["verdict"]) == ("12.8 %", live_claims.HELD)
    vanilla = beside(folder, "no cache")
    assert vanilla["here, up to"].startswith("55.0 % (55 to 55) of no cache: 110 ms, marconi; ")
    assert (vanilla["paper, up to"], vanilla["verdict"]) == ("73.2 %", live_claims.PARTLY)
    assert beside(folder, "vLLM+")["verdict"] == live_claims.NO_VERDICT

    record(folder / "lru", "chats-1", [105, 105], variant="admission_only")
    assert beside(folder, SGLANG)["verdict"] == live_claims.PARTLY
    record(folder / "lru", "chats-1", [80, 80], variant="admission_only")
    assert beside(folder, SGLANG)["verdict"] == live_claims.NOT


def test_a_reduction_within_the_spread_is_not_told_from_none(folder: Path) -> None:
    """Of 40 requests a tenth waits much longer, other ones in each replay."""
    for variant, shift, slow in (
        ("no_cache", 0, 300),
        ("admission_only", 3, 160),
        ("marconi", 5, 150),
    ):
        ttft = [float(slow if (i + shift) % 10 == 0 else 20 + i) for i in range(40)]
        record(
            folder / "noisy" / variant, "chats-1", ttft, variant=variant, options={"concurrency": 2}
        )
    noisy = table(folder / "noisy")
    rows = live.requests(read_recordings(csv_files([str(folder / "noisy")])))
    [found] = live_claims.reductions(noisy, ["admission_only"]).iloc
    low, high = live_claims.interval(found, rows, "points")
    assert low < 0 < found["points"] < high
    assert (low, high) == live_claims.interval(found, rows, "points")
    assert beside(folder / "noisy", SGLANG)["verdict"] == live_claims.UNCLEAR


VERDICTS = {live_claims.HELD, live_claims.PARTLY, live_claims.NOT}


def test_percent_of_the_baseline_are_not_judged_by_percent_of_no_cache(folder: Path) -> None:
    assert VERDICTS & set(claims(folder)["verdict"])
    (folder / "none/chats-1.csv").unlink()
    assert not VERDICTS & set(claims(folder)["verdict"])
    sglang = beside(folder, SGLANG)
    assert sglang["here, up to"].startswith("35.7 % (36 to 36) of admission_only: 50 ms, marconi;")
    # where another place has a server without a cache, that one is judged
    for variant, ttft in (("no_cache", 200.0), ("admission_only", 120.0), ("marconi", 110.0)):
        record(folder / "two" / variant, "chats-1", [ttft] * 3, variant=variant)
    sglang = beside(folder, SGLANG)
    assert sglang["here, up to"].startswith("5.0 % (5 to 5) of no cache")
    assert sglang["verdict"] == live_claims.PARTLY


def test_several_places_give_the_largest_and_the_least(folder: Path) -> None:
    for variant, ttft in (("no_cache", 200.0), ("admission_only", 120.0), ("marconi", 110.0)):
        record(folder / "two" / variant, "chats-1", [ttft] * 3, variant=variant)
    words = beside(folder, SGLANG)["here, up to"]
    assert words.startswith("25.0 % (25 to 25) of no cache")
    assert "; least: 5.0 % (5 to 5) of no cache: 8.3 % of admission_only" in words


@pytest.mark.parametrize(
    ("trace", "said"),
    [
        ("chats_long_sps=1_nums=2_tekken", "chats_long (stand-in for LMSys)"),
        ("others", "others"),
    ],
)
def test_stand_ins_say_so_and_are_not_judged(tmp_path: Path, trace: str, said: str) -> None:
    for variant, ttft in (("no_cache", 200.0), ("admission_only", 140.0), ("marconi", 20.0)):
        record(tmp_path / variant, trace, [ttft], variant=variant)
    found = claims(tmp_path)
    assert not VERDICTS & set(found["verdict"])
    [row] = found[found["P95 TTFT lower than"] == SGLANG].to_dict("records")
    assert (row["data"], row["paper, up to"]) == (said, "") and "random weights" in row["server"]


@pytest.mark.parametrize(
    ("changes", "load"),
    [
        ({"options": {"concurrency": 16}}, LOAD.replace("8 in", "16 in")),
        ({"options": {"speed": 2.0}}, LOAD.replace(", closed", ", arrivals 2 times as fast, closed")),
        ({"options": {"concurrency": None, "speed": 1.5}},
         LOAD.replace("8 in flight", "any number in flight, arrivals 1.5 times as fast")),
        ({"options": {"loop": "open"}}, LOAD.replace("closed", "open")),
        ({"options": {"outputs": "forced"}}, LOAD.replace("substituted", "forced")),
        ({"spec": {"sglang": "0.5.17"}}, LOAD.replace("16", "17")),
        ({"spec": {"max_running_requests": 4}}, LOAD.replace("flight", "flight, at most 4 running")),
    ],
)  # fmt: skip
def test_replays_under_different_load_are_not_compared(
    folder: Path, tmp_path: Path, changes: dict[str, Any], load: str
) -> None:
    before = live_claims.reductions(table(folder), STOCK)
    record(folder / "busy", "chats-1", [1.0, 1.0], **changes)
    replays = table(folder)
    assert set(replays["load"]) == {LOAD, load}
    assert len(replays[replays["variant"] == "marconi"]) == 2
    pd.testing.assert_frame_equal(live_claims.reductions(replays, STOCK), before)
    rows = live.requests(read_recordings(csv_files([str(folder)])))
    first = islice(live.page("", replays, rows, *[pd.DataFrame()] * 3, []), 4)
    texts = [section.text for section in first if section.title.startswith("Replays on")]
    wanted = sorted([LOAD, load])
    assert sorted(text.partition(". Medians")[0] for text in texts) == [
        f"Load: {w}" for w in wanted
    ]
    figure = live_plot.draw(replays)
    above = figure.get_suptitle()
    titles = [axes.get_title("left") for axes in figure.axes[::2]]
    panels = replays.groupby(recordings.PLACE, sort=False)["load"].first()
    assert len(set(titles)) == 2 == len(panels)
    for title, said in zip(titles, panels, strict=True):
        assert all(word in f"{above} {title}".replace("\n", " ") for word in said.split(", "))


def test_stock_is_compared_with_the_same_strategy(folder: Path) -> None:
    record(folder / "ours", "chats-1", [120, 120], variant="marconi_no_buffer")
    record(folder / "grid", "chats-1", [180, 180], variant="extra_buffer")
    for strategy, percent in (("no_buffer", "20.0"), ("extra_buffer", "50.0")):
        stock = beside(folder, f"stock SGLang, `{strategy}` (not in the paper)")
        whole = percent.removesuffix(".0")
        assert stock["here, up to"].startswith(f"{percent} % ({whole} to {whole}) of {strategy}: ")
        assert stock["paper, up to"] == ""


def test_admission_only_is_compared_with_the_same_strategy(folder: Path) -> None:
    before = live_claims.reductions(table(folder), live_claims.SGLANG_PLUS)
    record(folder / "ours", "chats-1", [1, 1], variant="marconi_no_buffer")
    pd.testing.assert_frame_equal(
        live_claims.reductions(table(folder), live_claims.SGLANG_PLUS), before
    )
    record(folder / "theirs", "chats-1", [2, 2], variant="admission_only_no_buffer")
    again = live_claims.reductions(table(folder), live_claims.SGLANG_PLUS)
    found = again.set_index("baseline")
    assert found["marconi"]["admission_only_no_buffer"] == "marconi_no_buffer"
    assert found["percent"]["admission_only_no_buffer"] == 50
    pd.testing.assert_frame_equal(
        again[again["baseline"] == "admission_only"].reset_index(drop=True), before
    )


def test_replays_of_another_machine_are_not_compared(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = folder.parent / "resources/recorded"
    for occasion, ttft in (("2026-01-01-gpu", 90.0), ("2026-01-01-gpub", 10.0)):
        record(shipped / f"{occasion}-replay/50/x", "chats-1", [ttft] * 2)
    record(shipped / "2026-01-01-gpub-replay/50/y", "chats-1", [20.0] * 2, variant="extra_buffer")
    monkeypatch.setattr(recordings, "resource", lambda name: shipped.parent / name)
    replays = live.table(
        read_recordings(csv_files([str(folder), str(shipped)])), read_predictions([])
    )
    found = live_claims.reductions(replays, ["extra_buffer"]).set_index("occasion")
    assert found["percent"].to_dict() == {"2026-01-01-gpub": 50}
    assert set(replays["occasion"]) == {"here", "2026-01-01-gpu", "2026-01-01-gpub"}
    titles = [axes.get_title("left") for axes in live_plot.draw(replays).axes[::2]]
    assert [title.count("(2026-01-01-gpu") for title in titles] == [1, 1, 0]
    rows = live.requests(read_recordings(csv_files([str(folder), str(shipped)])))
    assert "(2026-01-01-gpub)" in live_claims.claims(replays, rows)["here, up to"].iloc[-1]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"prefill_graphs": True}, ", prefill_graphs=True"),
        ({"prefill_graphs": [64, 1024]}, ", prefill_graphs=64 1024"),
        ({"extra_flags": ["--page-size", "2"]}, ", extra_flags=--page-size 2"),
        ({"ssm_dtype": "bfloat16", "chunked_prefill_size": -1},
         ", chunked_prefill_size=-1, ssm_dtype=bfloat16"),
        ({"model": "/models/other", "served_name": "other"}, ", other"),
    ],
)  # fmt: skip
def test_servers_with_other_settings_are_not_compared(
    folder: Path, spec: dict[str, Any], said: str
) -> None:
    before = live_claims.reductions(table(folder), STOCK)
    record(folder / "unusual", "chats-1", [1.0, 1.0], spec=spec)
    replays = table(folder)
    assert set(replays["server"]) == {f"Test GPU, random weights{end}" for end in ("", said)}
    pd.testing.assert_frame_equal(live_claims.reductions(replays, STOCK), before)


def test_options_of_the_plugin_are_part_of_the_variant(folder: Path) -> None:
    options = ["--marconi-branch-gain", "1", "--page-size", "2"]
    record(folder / "gain", "chats-1", [70, 70], spec={"extra_flags": options[:2]})
    replays = table(folder)
    assert set(replays["server"]) == {"Test GPU, random weights"}
    # shown beside the others, but not what the paper means by Marconi
    found = live_claims.reductions(replays, ["no_cache", "admission_only"])
    assert set(found["marconi"]) == {"marconi"}
    labels = [label.get_text() for label in live_plot.draw(replays).axes[0].get_yticklabels()]
    assert "Marconi, tuned --marconi-branch-gain 1" in labels and "Marconi, tuned" in labels
    path = record(folder / "both", "chats-1", [1, 1], spec={"extra_flags": options})
    [recording] = read_recordings([path])
    assert recording.server.endswith(", extra_flags=--page-size 2")
    assert recording.variant == "marconi --marconi-branch-gain 1"


def test_usual_settings_are_those_of_a_spec_that_says_nothing() -> None:
    for name, usual in recordings.USUAL.items():
        default = ServerSpec.model_fields[name].default
        assert default in (None, usual) or list(default) == usual, name


def test_several_gpus_are_told_apart_from_one(folder: Path) -> None:
    record(folder / "two", "chats-1", [1.0, 1.0], spec={"tensor_parallel": 2})
    assert "2 x Test GPU, random weights" in set(table(folder)["server"])


def test_times_with_other_settings_are_not_the_usual_ones(measured_ttft: Path) -> None:
    usual = latest_ttft("no_buffer")
    later = measured_ttft / "2027-01-01-h100-ttft"
    later.mkdir()
    (later / "no_buffer.csv").write_bytes(usual.path.read_bytes())
    described = usual.description | {"spec": usual.description["spec"] | {"prefill_graphs": True}}
    (later / "no_buffer.json").write_text(json.dumps(described), encoding="utf-8")
    assert latest_ttft("no_buffer").path == usual.path


def test_times_of_the_same_machine_are_taken() -> None:
    gpu = "NVIDIA H200"
    occasions = {
        r.occasion
        for r in read_recordings(recorded_files("ttft"))
        if r.gpu == gpu and r.path.stem == "marconi" and r.plain
    }
    assert len(occasions) > 1
    for occasion in occasions:
        assert latest_ttft("marconi", where=occasion).occasion == occasion
    assert latest_ttft("marconi", where=gpu).occasion == max(occasions)


def test_the_hosts_pace_is_shown_where_it_was_recorded(folder: Path) -> None:
    record(folder / "paced", "chats-1", [70, 70], variant="seglen", host_pace={"median_ms": 1.25})
    replays = table(folder).set_index("variant")
    assert replays.loc["seglen", "host_ms"] == 1.25 and replays["host_ms"].isna().sum() > 1
    rows = live.requests(read_recordings(csv_files([str(folder)])))
    sections = islice(live.page("", table(folder), rows, *[pd.DataFrame()] * 3, []), 3)
    shown = [s.table for s in sections if s.title.startswith("Replays on")]
    cells = shown[0].set_index("variant")["host, ms"]
    assert (cells["seglen"], cells["marconi"]) == ("1.25", "")


def test_replays_of_fewer_requests_are_not_compared(folder: Path) -> None:
    before = live_claims.reductions(table(folder), STOCK)
    record(folder / "short", "chats-1", [1.0])
    pd.testing.assert_frame_equal(live_claims.reductions(table(folder), STOCK), before)


def test_a_simulated_server_gets_no_verdict(tmp_path: Path) -> None:
    for variant, ttft in (("no_cache", 200.0), ("admission_only", 140.0), ("marconi", 20.0)):
        record(tmp_path / variant, "chats-1", [ttft], variant=variant, spec={"server": "simulated"})
    replays = table(tmp_path)
    assert set(replays["server"]) == {SIMULATED}
    assert set(claims(tmp_path)["verdict"]) == {live_claims.NO_VERDICT}
    assert SIMULATED in set(claims(tmp_path)["server"])


def test_simulated_servers_with_other_settings_are_no_repeats(tmp_path: Path) -> None:
    for name, more in (("a", {}), ("b", {"chunked_prefill_size": 256})):
        record(tmp_path / name, "chats-1", [200.0], spec={"server": "simulated", **more})
    replays = table(tmp_path)
    assert set(replays["server"]) == {SIMULATED, f"{SIMULATED}, chunked_prefill_size=256"}
    assert set(claims(tmp_path)["verdict"]) <= {live_claims.NO_VERDICT}


def test_what_ended_early_is_named_and_left_out(folder: Path) -> None:
    record(folder / "marconi", "chats-2", [1.0], requests_planned=9, ended_by="the server died")
    (folder / "marconi/chats-3.csv").unlink()  # a journal only
    broken = folder / "marconi/chats-3.json"
    content = json.loads(broken.read_text()) | {"requests": 0}
    broken.write_text(json.dumps(content), encoding="utf-8")
    assert live.left_out([folder]) == [
        "chats-2: 1 of 9 requests; the server died",
        "chats-3: 0 of 2 requests; no reason was recorded",
    ]
    assert table(folder).set_index("variant").loc["marconi"]["repeats"] == 1
    requests = live.requests(read_recordings(csv_files([str(folder)])))
    assert len(requests[requests["variant"] == "marconi"]) == 2


def test_rows_without_provenance_are_refused(folder: Path) -> None:
    (folder / "lru/chats-1.json").unlink()
    with pytest.raises(DataError, match=r"chats-1\.json: says not where .* \(No such file"):
        table(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"chats-1\.json: says not where a measurement comes from \(Expecting"),
        ("[]", r"chats-1\.json: not the JSON file of a measurement"),
        ('{"requests": 2}', r"chats-1\.json: lacks the key pools\.states|lacks the key options"),
    ],
)
def test_a_damaged_description_is_one_error(folder: Path, text: str, message: str) -> None:
    (folder / "lru/chats-1.json").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        table(folder)
    if "lacks" not in message:  # it says nothing of what was planned
        with pytest.raises(DataError, match=message):
            live.left_out([folder])


def test_damaged_rows_are_one_error_and_cut_off_ones_do_not_count(folder: Path) -> None:
    rows = folder / "lru/chats-1.csv"
    whole = rows.read_text()
    rows.write_text("".join(whole.splitlines(keepends=True)[:-1]), encoding="utf-8")
    assert "admission_only" not in set(table(folder)["variant"])
    assert live.left_out([folder]) == ["chats-1: 1 of 2 requests; chats-1.csv lacks the others"]
    rows.write_bytes(whole.encode() + b"\xff,\n")
    with pytest.raises(DataError, match=r"chats-1\.csv: no CSV .*; copy it again"):
        table(folder)


def test_predictions_are_the_simulators_under_the_same_load(tmp_path: Path) -> None:
    prompts = [list(range(n, n + 30)) for n in (0, 100, 200)]
    trace = Trace.build(
        Request(s, turn, float(turn), prompt if turn == 0 else [*prompt, 7, 8, 9], [7, 8])
        for turn in (0, 1)
        for s, prompt in enumerate(prompts)
    )
    trace.save(tmp_path / "chats.npz")
    served: dict[str, Any] = {
        "variant": "no_buffer", "pools": {"states": 6, "kv_tokens": 9000},
        "devices": [{"name": REFERENCE_GPU}],
    }  # fmt: skip
    alone = {"options": {"concurrency": 1}}
    simulator = ServerSimulator(PoolSizes(9000, 6))
    expected = [
        simulator.serve(trace.input_tokens(i), trace.output_tokens(i)).hit for i in range(6)
    ]
    assert 0 < expected.count(0) < 6

    folder = tmp_path / "replays"
    record(folder / "all", "chats-1", [9.0] * 6, **served, **alone, trace=trace.digest())
    first = record(folder / "first", "chats-1", [9.0] * 4, **served, **alone,
                   trace=trace.head(4).digest())  # fmt: skip
    busy = {"options": {"concurrency": 3}, "spec": {"max_running_requests": 2}}
    record(folder / "busy", "chats-1", [9.0] * 6, **served, **busy, trace=trace.digest())
    unknown = served | {"devices": [{"name": "a GPU without recorded times"}]}
    record(folder / "unknown", "chats-1", [9.0] * 6, **unknown, **alone, trace=trace.digest())
    record(folder / "all", "others-1", [9.0] * 6, **served, trace="another")
    assert main([str(folder), "--traces", str(tmp_path / "chats.npz")]) == 0
    every = read_predictions([folder]).set_index("server")
    [of_unknown] = every.loc[["a GPU without recorded times, random weights"]].itertuples()
    found = every.drop("a GPU without recorded times, random weights").reset_index()
    in_turn = found[found["load"].str.startswith("1 in flight")].set_index("requests")
    for requests in (4, 6):  # of the same trace, each its own
        rate = sum(expected[:requests]) / trace.n_in[:requests].sum()
        assert in_turn["token_hit_rate"][requests] == pytest.approx(rate, abs=1e-6)
    # the recorded rows hit 50 tokens each, which no prediction does
    assert (found["hit_as_predicted"] == 0).all()
    assert of_unknown.token_hit_rate == in_turn["token_hit_rate"][6]
    assert np.isnan([of_unknown.ttft_p50_ms, of_unknown.ttft_p95_ms]).all()
    # times are the server's alone where it has nothing else to do, and longer where it has
    alone_ms = batch_times(latest_ttft("no_buffer")).prefill.ms(trace.n_in, expected)
    assert in_turn["ttft_p50_ms"][6] == pytest.approx(np.median(alone_ms), abs=0.01)
    shared = found[found["load"].str.startswith("3 in flight, at most 2 running")].iloc[0]
    assert shared["ttft_p95_ms"] > in_turn["ttft_p95_ms"][6] > 0
    replays = table(folder).set_index(["load", "trace", "requests"])["predicted_token_hit_rate"]
    [load_of_first] = read_recordings([first])
    assert replays[load_of_first.load, "chats", 4] == in_turn["token_hit_rate"][4]
    assert np.isnan(replays[LOAD, "others", 6])


@pytest.mark.parametrize(("said", "gain"), [({"branch_gain": 7}, 7), ({}, 1), (None, BRANCH_GAIN)])
def test_predicted_servers_have_the_settings_that_servers_told(
    said: dict[str, int] | None, gain: int
) -> None:
    spec = ServerSpec.of({"variant": "marconi", "model": "nemotron_h_8b"})
    server = server_of(spec, PoolSizes(9000, 40), 5, said).server
    assert server.simulator.policy.branch_gain == gain and server.simulator.policy.probation
    assert not server_of(spec, PoolSizes(9000, 40), 1, said).server.simulator.policy.probation


def test_the_latest_of_several_predictions_counts(tmp_path: Path) -> None:
    line = "here,GPU,alone,chats,marconi,40,9000,2,{},1,2,1"
    for date, rate in (("2026-01-01", 0.25), ("2026-02-01", 0.75)):
        (tmp_path / date).mkdir()
        rows = [",".join(Prediction._fields), line.format(rate)]
        (tmp_path / date / PREDICTED).write_text("\n".join(rows), encoding="utf-8")
    assert list(read_predictions([tmp_path])["token_hit_rate"]) == [0.75]


def test_a_replay_that_cannot_be_predicted_does_not_hide_the_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trace = Trace.build([Request(s, 0, s, [s, *range(20)], [7] * 5) for s in range(3)])
    trace.save(tmp_path / "chats.npz")
    folder, known = tmp_path / "replays", {"variant": "no_buffer", "trace": trace.digest()}
    pools = {"states": 12, "kv_tokens": 9000}
    record(folder / "a", "chats-1", [9.0] * 3, **known, pools={"states": 12, "kv_tokens": 21})
    record(folder / "b", "chats-1", [9.0] * 3, **known, pools=pools, spec={"model": "some/one"})
    record(folder / "c", "chats-1", [9.0] * 3, **known, pools=pools, options={"concurrency": 1})
    old = {"sglang": "0.5.6.post2"}
    record(folder / "d", "chats-1", [9.0] * 3, **known, pools=pools, spec=old)
    assert main([str(folder), "--traces", str(tmp_path / "chats.npz")]) == 0
    [prediction] = read_predictions([folder]).to_dict("records")
    assert prediction["load"].startswith("1 in flight")
    lines = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(lines) == 3 and not any("\n" in line for line in lines)
    assert f"{folder / 'a/chats-1.csv'}: not predicted: " in lines[0] and "KV tokens" in lines[0]
    assert "b/chats-1.csv: not predicted: unknown model" in lines[1]
    assert lines[2].endswith("only SGLang 0.5.16 is simulated batch by batch, not 0.5.6.post2")
    assert table(folder)["predicted_token_hit_rate"].count() == 1
    (folder / "c/chats-1.csv").unlink()
    assert main([str(folder), "--traces", str(tmp_path / "chats.npz")]) == 0
    assert table(folder)["predicted_token_hit_rate"].isna().all()


def test_long_predictions_are_seen_to_go_on(tmp_path: Path) -> None:
    Trace.build([Request(0, 0, 0.0, [1, 2], [3])]).save(tmp_path / "chats.npz")
    words = [str(tmp_path), "--traces", str(tmp_path / "chats.npz")]
    ask = "import sys, logging, marconi_core.report.predicted as p; p.main(sys.argv[1:]); "
    ask += "print(logging.getLogger(p.__name__).isEnabledFor(logging.INFO))"
    done = subprocess.run([sys.executable, "-c", ask, *words], capture_output=True, text=True)
    assert done.stdout == "True\n", done.stderr


def test_another_trace_is_not_predicted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Trace.build([Request(0, 0, 0.0, [1, 2], [3])]).save(tmp_path / "chats.npz")
    record(tmp_path / "replays", "chats-1", [9.0], trace="another")
    assert main([str(tmp_path / "replays"), "--traces", str(tmp_path / "chats.npz")]) == 2
    assert "another trace was replayed than chats.npz" in capsys.readouterr().err
    assert not (tmp_path / "replays/predicted.csv").exists()


def test_every_recording_is_found() -> None:
    """A folder with another name would be left out without a word."""
    folders = [path for path in resource("recorded").iterdir() if path.is_dir()]
    named = re.compile(r"\d{4}-\d\d-\d\d-[a-z0-9]+-(ttft|parity|replay|outputs|fault|bench)")
    assert [folder.name for folder in folders if not named.fullmatch(folder.name)] == []
    text = (resource("recorded") / "README.md").read_text(encoding="utf-8")
    assert [folder.name for folder in folders if f"## `{folder.name}`" not in text] == []


def test_recorded_times_are_drawn_and_fitted(tmp_path: Path) -> None:
    rows = ttft_plot.table(read_recordings(recorded_files("ttft")))
    variants = rows.groupby("occasion")["variant"].agg(set)
    assert variants["2026-11-24-h100"] == {"no_cache", "no_buffer", "extra_buffer"}
    assert variants["2026-11-29-h200"] == {"extra_buffer", "marconi"}
    assert variants["2026-11-29-h200b"] == {"no_cache", "no_buffer", "marconi"}
    errors = (rows["fitted_ms"] / rows["median_ms"] - 1).abs()
    error = errors.groupby([rows["occasion"], rows["variant"]]).mean()
    assert error.max() < 0.06 and errors.max() < 0.25
    assert error["2026-11-24-h100", "no_cache"] < 0.03
    for name in ("a.svg", "b.svg"):
        save(ttft_plot.draw(rows), tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_recorded_parity_has_no_difference() -> None:
    runs = live.parity(read_recordings(recorded_files("parity")))
    assert runs["requests"].sum() > 200
    assert set(runs["differing requests"]) == {"0"}


@pytest.mark.parametrize(
    ("rows", "said", "differing"),
    [
        (["0,9,4,5,5,1.0", "1,9,4,5,5,1.0"], {}, "0"),
        (["0,9,4,5,5,1.0", "1,9,4,6,5,1.0"], {}, "1"),
        ([], {}, "not known: cut off"),
        (["0,9,4,5,5,1.0"], {}, "not known: cut off"),  # the file lacks a row
        (["0,9,4,6,5,1.0"], {"requests": 0}, "at least 1: cut off"),  # killed
        (["0,9,4,5,5,1.0", "1,9,4,5,5,1.0"], {"requests_planned": 9}, "not known: cut off"),
    ],
)
def test_parity_of_a_run_that_was_cut_off_is_not_known(
    tmp_path: Path, rows: list[str], said: dict[str, int], differing: str
) -> None:
    path = record(tmp_path, "run", [1.0, 1.0], **said)
    lines = [",".join(ParityRow._fields), *rows] if rows else []
    path.write_text("\n".join(lines), encoding="utf-8")
    [run] = live.parity(read_recordings([path])).to_dict("records")
    assert run["differing requests"] == differing
    assert (run["requests"], run["planned"]) == (len(rows), said.get("requests_planned", 2))


@pytest.fixture
def measured_ttft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copies of the recorded times to first token, the only ones that there are."""
    for path in recorded_files("ttft"):
        for file in (path, path.with_suffix(".json")):
            target = tmp_path / "recorded" / file.parent.name / file.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    monkeypatch.setattr(recordings, "resource", lambda name: tmp_path / name)
    return tmp_path / "recorded"


def test_times_that_were_cut_off_do_not_count(measured_ttft: Path) -> None:
    latest = latest_ttft("no_buffer")
    later = measured_ttft / "2027-01-01-h100-ttft"
    later.mkdir()
    for suffix in (".csv", ".json"):
        source = latest.path.with_suffix(suffix)
        (later / source.name).write_bytes(source.read_bytes())
    assert latest_ttft("no_buffer").path.parent == later
    text = (later / "no_buffer.csv").read_text().splitlines()
    (later / "no_buffer.csv").write_text("\n".join(text[:100]), encoding="utf-8")
    assert latest_ttft("no_buffer").path == latest.path
    assert len(
        ttft_plot.table(read_recordings(sorted(later.glob("*.csv")) + [latest.path]))
    ) == len(ttft_plot.table(read_recordings([latest.path])))
    with pytest.raises(DataError, match="no complete times to first token: measure them"):
        ttft_plot.table(read_recordings(later.glob("*.csv")))


def test_missing_times_are_one_error(measured_ttft: Path) -> None:
    latest_ttft("no_cache").path.unlink()
    with pytest.raises(
        DataError,
        match=r"'no_cache', on 1 'NVIDIA H100.*', only on NVIDIA H200 \(2026-11-29-h200b\); record",
    ):
        latest_ttft("no_cache")


def test_times_are_those_of_a_gpu() -> None:
    assert latest_ttft("extra_buffer").gpu == REFERENCE_GPU
    assert latest_ttft("extra_buffer", where="NVIDIA H200").gpu == "NVIDIA H200"
    assert latest_ttft("marconi", "extra_buffer").variant == "extra_buffer"
    assert latest_ttft("marconi", "extra_buffer", where="NVIDIA H200").variant == "marconi"
    with pytest.raises(
        NoTimesError, match=r"on 1 'NVIDIA H300', only on NVIDIA H100 80GB HBM3 .*, NVIDIA H200 "
    ):
        latest_ttft("no_buffer", where="NVIDIA H300")


def test_times_are_those_of_a_model() -> None:
    assert latest_ttft("no_buffer", model="nvidia/Nemotron-H-8B-Base-8K").variant == "no_buffer"
    with pytest.raises(NoTimesError, match=r"of 'falcon_h1_7b'.* only on no GPU"):
        latest_ttft("no_buffer", model="falcon_h1_7b")
    with pytest.raises(NoTimesError, match="on 2 'NVIDIA H100"):
        latest_ttft("no_buffer", gpus=2)


def test_times_without_decoding_are_one_error(measured_ttft: Path) -> None:
    path = latest_ttft("no_cache").path
    lines = [line for line in path.read_text().splitlines() if ",decode," not in line]
    path.write_text("\n".join(lines), encoding="utf-8")
    described = json.loads(path.with_suffix(".json").read_text())
    described |= {"requests": len(lines) - 1, "requests_planned": len(lines) - 1}
    path.with_suffix(".json").write_text(json.dumps(described), encoding="utf-8")
    assert latest_ttft("no_cache").path == path
    with pytest.raises(DataError, match=r"no_cache\.csv: has no times of decoding.*; record them"):
        batch_times(latest_ttft("no_cache"))


@pytest.mark.parametrize(
    ("rate", "p95", "labels"),
    [
        (0.5, 9.0, ["predicted", "predicted P95"]),
        (0.5, np.nan, ["predicted"]),  # of a simulated server that was faster
        (np.nan, np.nan, []),
    ],
)
def test_the_legend_has_what_was_predicted(
    folder: Path, rate: float, p95: float, labels: list[str]
) -> None:
    replays = table(folder).assign(predicted_token_hit_rate=rate, predicted_ttft_p95_ms=p95)
    legends = live_plot.draw(replays).legends
    assert [text.get_text() for legend in legends for text in legend.get_texts()] == labels


def test_replays_are_drawn_with_every_variant_named(folder: Path, tmp_path: Path) -> None:
    replays = table(folder)
    for name in ("a.svg", "b.svg"):
        save(live_plot.draw(replays), tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert live_plot.label_of("marconi_no_buffer@0.5") == "Marconi, no_buffer, alpha 0.5"
    assert live_plot.label_of("marconi") == "Marconi, tuned"
    save(live_plot.draw(replays.iloc[:0]), tmp_path / "empty.svg")


def test_the_page_says_where_everything_comes_from(folder: Path) -> None:
    sections = live.page(
        "Recorded.",
        table(folder),
        live.requests(read_recordings(csv_files([str(folder)]))),
        live.parity(read_recordings(recorded_files("parity"))),
        ttft_plot.table(read_recordings(recorded_files("ttft"))),
        live.checklists(map(Path, recorded_checklists())),
        ["chats-9: ended"],
    )
    page = to_markdown(list(sections))
    assert page.startswith("## Live servers\n\nRecorded.\n")
    assert f"## Replays on Test GPU, random weights, 8 in flight\n\nLoad: {LOAD}." in page
    assert "| chats | ShareGPT | 40 | 9000 | marconi@0.5 | 2 | 1 |" in page
    assert "- chats-9: ended" in page
    assert "extra_buffer-text: SGLang 0.5.16" in page and "FAILED" not in page


def test_the_page_without_replays_says_so() -> None:
    empty = live.table([], read_predictions([]))
    nothing = live.parity([])
    fits = ttft_plot.table(read_recordings(recorded_files("ttft")))
    page = to_markdown(
        list(live.page("Recorded.", empty, live.requests([]), nothing, fits, nothing, []))
    )
    assert "No replay has been recorded yet." in page
