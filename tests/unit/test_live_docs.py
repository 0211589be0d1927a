"""Tables in the documentation that repeat recorded replays: they have to say what the rows say."""

import numpy as np
import pandas as pd
import pytest

from marconi_core.assets import resource
from marconi_core.report import live
from marconi_core.report.live_claims import reductions
from marconi_core.report.predicted import read_predictions
from marconi_core.serving.recordings import read_recordings, recorded_files
from marconi_core.serving.spec import CHECKOUT

SWEBENCH, TAU = "swebench_sps=1_art=5_nums=100", "tau_airline_sps=1_art=5_nums=200_tekken"
SHAREGPT, LONG = "sharegpt_sps=1_nums=100_tekken", "sharegpt_long_sps=1_nums=100_tekken"
H100, MACHINE, THIRD = (
    "2026-11-24-h100",
    "2026-11-29-h200b",
    "2026-11-29-h200c",
)  # replays and times are of the same machine
PLACES = {
    (MACHINE, f"{SWEBENCH}_tekken"): "H200, SWE-bench stand-in in Tekken, 50 states, 12 in flight",
    (MACHINE, TAU): "H200, tau-airline, 60 states, 8 in flight",
    (MACHINE, SHAREGPT): "H200, ShareGPT, the same",
    (H100, SWEBENCH): "H100, SWE-bench stand-in, 50 states, 8 in flight",
}
NAMES = {
    "no_cache": "no cache", "extra_buffer": "stock, `extra_buffer`", "admission_only": "admission only",
    "seglen": "SegLen", "marconi_no_buffer": "Marconi, `no_buffer`", "marconi": "Marconi, `extra_buffer`",
}  # fmt: skip


@pytest.fixture(scope="module")
def replays() -> pd.DataFrame:
    return live.table(
        read_recordings(recorded_files("replay")), read_predictions([resource("recorded")])
    )


def lines(replays: pd.DataFrame) -> list[str]:
    """Return the rows of the table in architecture.md."""
    found = []
    for (occasion, trace), place in PLACES.items():
        group = replays[(replays["occasion"] == occasion) & (replays["trace"] == trace)]
        rows = group.set_index("variant")
        for variant in [name for name in NAMES if name in rows.index]:
            row = rows.loc[variant]
            cells = [
                place,
                NAMES[variant],
                f"{100 * row['token_hit_rate']:.1f}",
                f"{100 * row['predicted_token_hit_rate']:.1f}",
                f"{100 * row['predicted_hit_as_predicted']:.0f}",
                *(f"{row[f'{p}ttft_p50_ms']:.0f}" for p in ("", "predicted_")),
                *(f"{row[f'{p}ttft_p95_ms']:.0f}" for p in ("", "predicted_")),
            ]
            found.append("|" + "|".join(f" {c} " if c else " " for c in cells) + "|")
            place = ""
    return found


def test_predicted_and_measured(replays: pd.DataFrame) -> None:
    text = (CHECKOUT / "docs/architecture.md").read_text(encoding="utf-8")
    assert len(lines(replays)) == 13
    assert "\n".join(lines(replays)) in text


def test_hits_are_predicted_as_the_page_says(replays: pd.DataFrame) -> None:
    tuned = replays["variant"].str.startswith(("marconi", "seglen"))
    error = (replays["token_hit_rate"] - replays["predicted_token_hit_rate"]).abs()
    assert error[~tuned].max() < 0.005 and 0.02 < error.max() < 0.03
    stock = replays[replays["variant"] == "no_buffer"].set_index("trace")[
        "predicted_hit_as_predicted"
    ]
    assert (stock.drop(TAU) == 1).all() and len(stock) == 4


def test_recorded_replays(replays: pd.DataFrame) -> None:
    """Hit rates, medians and P95 of resources/recorded/README.md and docs/live.md."""
    recorded = resource("recorded/README.md").read_text(encoding="utf-8")
    page = (CHECKOUT / "docs/live.md").read_text(encoding="utf-8")
    h200 = replays[replays["occasion"] != H100].set_index(["occasion", "trace", "variant"])
    for (occasion, trace, variant), row in h200.iterrows():
        hits = f"{100 * row['token_hit_rate']:.1f} | {100 * row['predicted_token_hit_rate']:.1f}"
        times = f"{row['ttft_p50_ms']:.0f} | {row['ttft_p95_ms']:.0f}"
        speed = f"{row['output_tokens_per_s']:.0f}"
        if row["repeats"] == 1:
            assert f"| {hits} | {times} | {speed} |" in recorded, (occasion, trace, variant)
        if variant == "marconi" and (occasion, trace, "extra_buffer") in h200.index:
            stock = h200.loc[occasion, trace, "extra_buffer"]
            rates = [100 * stock["token_hit_rate"], 100 * row["token_hit_rate"]]
            p95 = [stock["ttft_p95_ms"], row["ttft_p95_ms"]]
            speed = f"{stock['output_tokens_per_s']:,.0f} → {row['output_tokens_per_s']:,.0f}"
            assert (
                f"| {rates[0]:.1f} → {rates[1]:.1f} % ({rates[1] / rates[0]:.2f}x) | "
                f"{p95[0]:,.0f} → {p95[1]:,.0f} ms ({100 * (p95[1] / p95[0] - 1):.0f} %) | {speed} |"
            ) in page


def test_all_policies_beside_each_other(replays: pd.DataFrame) -> None:
    """The second table of docs/live.md: a row per variant, a cell per trace."""
    page = (CHECKOUT / "docs/live.md").read_text(encoding="utf-8")
    rows = replays.set_index(["occasion", "trace", "variant"])
    places = [
        (MACHINE, f"{SWEBENCH}_tekken"),
        (THIRD, TAU),
        (THIRD, SHAREGPT),
    ]
    for variant in ("no_cache", "extra_buffer", "admission_only", "marconi"):
        cells = [
            f"{row['ttft_p50_ms']:.0f}, {row['ttft_p95_ms']:,.0f}; {100 * row['token_hit_rate']:.1f} %"
            for row in (rows.loc[*place, variant] for place in places)
        ]
        assert f"| {' | '.join(cells)} |" in page


@pytest.mark.parametrize("baseline", ["admission_only", "no_cache"])
def test_the_papers_claims(replays: pd.DataFrame, baseline: str) -> None:
    """The third table of docs/live.md: reductions in percent of no cache, with bootstrap intervals."""
    page = (CHECKOUT / "docs/live.md").read_text(encoding="utf-8")
    cells = []
    for name, (occasion, trace) in (
        ("ShareGPT", (THIRD, SHAREGPT)),
        ("SWE-bench (stand-in)", (MACHINE, f"{SWEBENCH}_tekken")),
        ("tau-airline", (THIRD, TAU)),
    ):
        place = replays[(replays["occasion"] == occasion) & (replays["trace"] == trace)]
        found = reductions(place, [baseline]).iloc[0]
        low, high = interval(occasion, trace, baseline)
        cells.append(f"{name} {found['points']:.1f} ({low:.0f} to {high:.0f})")
    assert f"| {', '.join(cells)} |" in page


def interval(occasion: str, trace: str, baseline: str) -> tuple[float, float]:
    """Return 95 % of a reduction over draws of the requests, the same ones of each replay."""
    rows = {
        r.variant: r.rows().sort_values("request")["ttft_ms"].to_numpy()
        for r in read_recordings(recorded_files("replay"))
        if (r.occasion, r.trace) == (occasion, trace)
    }
    draws = np.random.default_rng(1).integers(300, size=(4000, 300))
    p95 = {name: np.percentile(ttft[draws], 95, axis=1) for name, ttft in rows.items()}
    points = 100 * (p95[baseline] - p95["marconi"]) / p95["no_cache"]
    low, high = np.percentile(points, [2.5, 97.5])
    return float(low), float(high)
