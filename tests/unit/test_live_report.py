"""Tables, figures and verdicts from recorded and simulated measurements."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from marconi_core.errors import DataError
from marconi_core.plots import live as live_plot
from marconi_core.plots import ttft as ttft_plot
from marconi_core.plots.style import save
from marconi_core.replay.rows import ReplayRow, write_rows
from marconi_core.report import live
from marconi_core.report.page import to_markdown
from marconi_core.report.predicted import cached_tokens, main, read_predictions
from marconi_core.rules.live import csv_files, recorded_checklists
from marconi_core.serving.recordings import SIMULATED, load, recorded_files
from marconi_core.serving.spec import ServerSpec
from marconi_core.sim.server import PoolSizes, ServerSimulator
from marconi_core.traces.trace import Request, Trace

GPU = [{"name": "Test GPU"}]


def record(
    folder: Path, name: str, ttft_ms: list[float], cached: int = 50, **description: Any
) -> Path:
    """A complete replay of prompts of 100 tokens."""
    variant = description.pop("variant", "marconi")
    spec = {"variant": variant, "model": "nemotron_h_8b", "alpha": description.pop("alpha", None)}
    rows = [
        ReplayRow(i, 0, i, 100, cached, 4, 0.0, float(i), i + 0.001, i + 0.1, i + 0.5, ttft)
        for i, ttft in enumerate(ttft_ms)
    ]
    path = folder / f"{name}.csv"
    folder.mkdir(parents=True, exist_ok=True)
    write_rows(rows, path)
    content = {
        "weights": "random", "date": "2026-11-24T06:14:26+00:00", "devices": GPU,
        "spec": spec, "pools": {"states": 40, "kv_tokens": 9000},
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
    recordings = list(load(csv_files([str(folder)])))
    return live.table(recordings, read_predictions([folder]))


def test_repeats_give_medians_and_their_range(folder: Path) -> None:
    replays = table(folder)
    assert list(replays["variant"]) == [
        "no_cache", "no_buffer", "admission_only", "marconi", "marconi@0.5",
    ]  # fmt: skip
    marconi = replays.set_index("variant").loc["marconi"]
    assert (marconi["repeats"], marconi["requests"]) == (3, 6)
    assert (marconi["ttft_p95_low_ms"], marconi["ttft_p95_ms"], marconi["ttft_p95_high_ms"]) == (
        80, 90, 200,
    )  # fmt: skip
    assert marconi["token_hit_rate"] == 0.5
    assert marconi["server"] == "Test GPU, random weights"
    assert np.isnan(marconi["predicted_token_hit_rate"])


def test_claims_are_judged_by_their_numbers(folder: Path) -> None:
    claims = live.claims(table(folder)).set_index("claim")
    sglang = claims.loc["P95 TTFT lower than SGLang+ (admission only), up to"]
    assert sglang["here"].startswith("25.0 % of no cache (35.7 % of admission_only, 50 ms;")
    assert (sglang["paper"], sglang["verdict"]) == ("24.7 %", live.HELD)
    assert claims.loc["P95 TTFT lower than vLLM+, up to"]["verdict"] == live.NO_VERDICT

    record(folder / "lru", "chats-1", [130, 130], variant="admission_only")
    assert live.PARTLY in set(live.claims(table(folder))["verdict"])
    record(folder / "lru", "chats-1", [80, 80], variant="admission_only")
    assert live.NOT in set(live.claims(table(folder))["verdict"])


def test_a_simulated_server_gets_no_verdict(tmp_path: Path) -> None:
    spec = {"model": "nemotron_h_8b", "server": "simulated"}
    for variant, ttft in (("admission_only", 140.0), ("marconi", 20.0)):
        record(tmp_path / variant, "chats-1", [ttft], spec={**spec, "variant": variant})
    replays = table(tmp_path)
    assert set(replays["server"]) == {SIMULATED}
    assert set(live.claims(replays)["verdict"]) == {live.NO_VERDICT}
    assert SIMULATED in live.claims(replays)["here"].iloc[1]


def test_what_ended_early_is_named_and_left_out(folder: Path) -> None:
    record(folder / "marconi", "chats-2", [1.0], requests_planned=9, ended_by="the server died")
    (folder / "marconi/chats-3.csv").unlink()  # a journal only
    broken = folder / "marconi/chats-3.json"
    content = json.loads(broken.read_text()) | {"requests": 0}
    broken.write_text(json.dumps(content), encoding="utf-8")
    assert live.left_out([folder]) == [
        "chats-2: 1 of 9 requests; the server died",
        "chats-3: 0 of 2 requests; the machine was taken away",
    ]
    assert table(folder).set_index("variant").loc["marconi"]["repeats"] == 1
    requests = live.requests(load(csv_files([str(folder)])))
    assert len(requests[requests["variant"] == "marconi"]) == 2


def test_rows_without_provenance_are_refused(folder: Path) -> None:
    (folder / "lru/chats-1.json").unlink()
    with pytest.raises(DataError, match=r"chats-1\.json: says not where chats-1\.csv comes from"):
        table(folder)


def test_predictions_are_the_simulators(tmp_path: Path) -> None:
    prompts = [list(range(n, n + 30)) for n in (0, 100)]
    trace = Trace.build(
        Request(s, turn, float(turn), prompt if turn == 0 else [*prompt, 7, 8, 9], [7, 8])
        for turn in (0, 1)
        for s, prompt in enumerate(prompts)
    )
    trace.save(tmp_path / "chats.npz")
    spec = {"variant": "no_buffer", "model": "nemotron_h_8b", "max_running_requests": 1}
    pools = PoolSizes(9000, 40)
    simulator = ServerSimulator(pools)
    expected = [
        simulator.serve(trace.input_tokens(i), trace.output_tokens(i)).hit for i in range(4)
    ]
    assert sum(expected) > 0
    assert cached_tokens(trace, ServerSpec.of(spec), pools, 4).tolist() == expected
    nothing = ServerSpec.of({**spec, "variant": "no_cache"})
    assert cached_tokens(trace, nothing, pools, 4).sum() == 0

    folder = tmp_path / "replays"
    record(folder, "chats-1", [9.0] * 4, spec=spec, trace=trace.digest())
    record(folder, "others-1", [9.0] * 4, spec=spec, trace="another")
    assert main([str(folder), "--traces", str(tmp_path / "chats.npz")]) == 0
    [row] = read_predictions([folder]).itertuples()
    assert row.token_hit_rate == pytest.approx(sum(expected) / trace.n_in.sum(), abs=1e-6)
    replays = table(folder).set_index("trace")
    assert replays.loc["chats", "predicted_token_hit_rate"] == row.token_hit_rate
    assert np.isnan(replays.loc["others", "predicted_token_hit_rate"])


def test_another_trace_is_not_predicted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Trace.build([Request(0, 0, 0.0, [1, 2], [3])]).save(tmp_path / "chats.npz")
    record(tmp_path / "replays", "chats-1", [9.0], trace="another")
    assert main([str(tmp_path / "replays"), "--traces", str(tmp_path / "chats.npz")]) == 2
    assert "another trace was replayed than chats.npz" in capsys.readouterr().err
    assert not (tmp_path / "replays/predicted.csv").exists()


def test_recorded_times_are_drawn_and_fitted(tmp_path: Path) -> None:
    rows = ttft_plot.table(load(recorded_files("ttft")))
    assert set(rows["variant"]) == {"no_cache", "no_buffer", "extra_buffer"}
    error = (rows["fitted_ms"] / rows["median_ms"] - 1).abs().groupby(rows["variant"]).mean()
    assert error.max() < 0.12 and error["no_cache"] < 0.03
    for name in ("a.svg", "b.svg"):
        save(ttft_plot.draw(rows), tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_recorded_parity_has_no_difference() -> None:
    runs = live.parity(load(recorded_files("parity")))
    assert runs["requests"].sum() > 200
    assert runs["differing requests"].sum() == 0


def test_replays_are_drawn_with_every_variant_named(folder: Path, tmp_path: Path) -> None:
    replays = table(folder)
    for name in ("a.svg", "b.svg"):
        save(live_plot.draw(replays), tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert live_plot.name_of("marconi_no_buffer@0.5") == "Marconi, no_buffer, alpha 0.5"
    assert live_plot.name_of("marconi") == "Marconi, tuned"
    save(live_plot.draw(replays.iloc[:0]), tmp_path / "empty.svg")


def test_the_page_says_where_everything_comes_from(folder: Path) -> None:
    sections = live.page(
        "Recorded.",
        table(folder),
        live.parity(load(recorded_files("parity"))),
        ttft_plot.table(load(recorded_files("ttft"))),
        live.checklists(map(Path, recorded_checklists())),
        ["chats-9: ended"],
    )
    page = to_markdown(list(sections))
    assert page.startswith("## Live servers\n\nRecorded.\n")
    assert "| Test GPU, random weights | chats | 40 | marconi@0.5 |" in page
    assert "- chats-9: ended" in page
    assert "extra_buffer-text: SGLang 0.5.16" in page and "FAILED" not in page


def test_the_page_without_replays_says_so() -> None:
    empty = live.table([], read_predictions([]))
    nothing = live.parity([])
    fits = ttft_plot.table(load(recorded_files("ttft")))
    page = to_markdown(list(live.page("Recorded.", empty, nothing, fits, nothing, [])))
    assert "No replay has been recorded yet." in page
