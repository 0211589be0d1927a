"""The whole chain on the tiny configuration, once; then everything that must hold of its results."""

from pathlib import Path

import pandas as pd
import pytest
from snakemake.exceptions import WorkflowError

from tests.planted import holders, plant

from .conftest import Run

FIGURES = (
    *("fig7", "fig8", "fig9_tiny_agents", "fig9_tiny_chats", "live_ttft", "live_replays"),
    *("fig3b", "fig5", "fig6", "fig10", "fig11", "fig12a", "fig12b", "fig13a", "fig13b", "fig14"),
    *("policies", "alpha", "ablation", "regret", "geometry"),
)
FIRST = "results/smoke/sim/tiny_agents_sps=1_art=5_nums=8/runs.parquet"


def test_smoke_run(run: Run, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    # by itself, since jobs that run at once would each compile what all simulations need
    run(FIRST, config="smoke", execute=True)
    run(config="smoke", execute=True)
    assert holders(checkout) == [], "nothing tells the tokens of whoever ran it"
    results = checkout / "results/smoke"
    for figure in FIGURES:
        for suffix in ("svg", "pdf", "csv"):
            assert (results / f"figures/{figure}.{suffix}").stat().st_size > 0
    claims = pd.read_csv(results / "tables/claims.csv")
    by_formulas = claims["data"] == "formulas"
    assert set(claims["verdict"][by_formulas]) == {"reproduced"}
    assert set(claims["verdict"][~by_formulas]) == {"stand-in only", "no data"}
    assert "tiny_chats (stand-in for ShareGPT)" in (results / "tables/claims.md").read_text()

    assert "Simulated server: no GPU was used" in (results / "tables/live.md").read_text()
    requests = pd.read_parquet(results / "live/requests.parquet")
    assert set(requests["server"]) == {"simulated server, extra_flags=--simulated-speed 500"}
    assert requests.groupby("variant").size().to_dict() == {"marconi@1": 60, "no_buffer": 60}
    parity = pd.read_csv(results / "live/parity/no_buffer_tiny_chats_sps=1_nums=20.csv")
    assert (parity["predicted_tokens"] == parity["cached_tokens"]).all()

    run("forecast", config="smoke", execute=True)
    forecast = pd.read_csv(results / "figures/forecast.csv").set_index("variant")
    served = pd.read_csv(results / "figures/live_replays.csv").set_index("variant")
    hits = forecast["token_hit_rate"] - served["predicted_token_hit_rate"]
    assert len(hits) == 2 and hits.abs().max() < 1e-6, "both simulate the same load"

    assert not run(config="smoke"), "a second run has nothing to do"

    before = {path: path.read_bytes() for path in (results / "figures").iterdir()}
    for path in before:
        path.unlink()
    assert len(run("all", "forecast", config="smoke", here=True)) > 20
    changed = [path.name for path, content in before.items() if path.read_bytes() != content]
    assert changed == [], "figures are byte-identical on a rerun"


def test_a_failing_rule_says_why_in_its_log(run: Run, checkout: Path) -> None:
    archive = checkout / "archive"
    archive.mkdir()
    config = checkout / "workflow/config/smoke.yaml"
    text = config.read_text(encoding="utf-8")
    config.write_text(text.replace("  tiny_chats:\n", "  tiny_chats:\n    trace_dir: archive\n"))
    for rate in (1, 2):
        (archive / f"tiny_chats_sps={rate}_nums=20.jsonl").write_text('{"session_id": 0')
    with pytest.raises(WorkflowError, match="did not complete"):
        run("compile", config="smoke", execute=True)
    log = checkout / "results/smoke/logs/read_trace/tiny_chats_sps=1_nums=20.log"
    assert "ERROR TraceError: archive/tiny_chats_sps=1_nums=20.jsonl:1" in log.read_text()
    assert not list((checkout / "results/smoke/traces").glob("tiny_chats*"))
