"""Tables in the documentation that repeat recorded replays: they have to say what the rows say."""

import pandas as pd
import pytest

from marconi_core.assets import resource
from marconi_core.report import live
from marconi_core.report.predicted import read_predictions
from marconi_core.serving.recordings import load, recorded_files
from marconi_core.serving.spec import CHECKOUT

SWEBENCH, TAU = "swebench_sps=1_art=5_nums=100", "tau_airline_sps=1_art=5_nums=200_tekken"
SHAREGPT, LONG = "sharegpt_sps=1_nums=100_tekken", "sharegpt_long_sps=1_nums=100_tekken"
PLACES = {
    ("NVIDIA H100 80GB HBM3", SWEBENCH): "H100, SWE-bench stand-in, 50 states, 8 in flight",
    ("NVIDIA H200", f"{SWEBENCH}_tekken"): "H200, the same in Tekken, 50 states, 12 in flight",
    ("NVIDIA H200", TAU): "H200, tau-airline, 60 states, 8 in flight",
    ("NVIDIA H200", SHAREGPT): "H200, ShareGPT, the same",
    ("NVIDIA H200", LONG): "H200, long chats (stand-in for LMSys), the same",
}
NAMES = {
    "no_buffer": "stock, `no_buffer`", "extra_buffer": "stock, `extra_buffer`",
    "marconi_no_buffer": "Marconi, `no_buffer`", "marconi": "Marconi, `extra_buffer`",
}  # fmt: skip
STOCK = {"marconi": "extra_buffer", "marconi_no_buffer": "no_buffer"}


@pytest.fixture(scope="module")
def replays() -> pd.DataFrame:
    found = live.table(load(recorded_files("replay")), read_predictions([resource("recorded")]))
    found["gpu"] = found["server"].str.partition(", ")[0]
    return found


def lines(replays: pd.DataFrame) -> list[str]:
    """Return the rows of the table in architecture.md."""

    def cell(value: float, form: str = ".0f") -> str:
        return "" if pd.isna(value) else f"{value:{form}}"

    found = []
    for key, place in PLACES.items():
        group = replays[(replays["gpu"] == key[0]) & (replays["trace"] == key[1])]
        rows = group.set_index("variant")
        for variant in [name for name in NAMES if name in rows.index]:
            row, changes = rows.loc[variant], ["", ""]
            if (stock := STOCK.get(variant)) in rows.index:
                changes = [
                    cell(100 * (row[column] / rows.loc[stock, column] - 1), "+.0f")
                    for column in ("ttft_p95_ms", "predicted_ttft_p95_ms")
                ]
            cells = [
                place,
                NAMES[variant],
                cell(100 * row["token_hit_rate"], ".1f"),
                cell(100 * row["predicted_token_hit_rate"], ".1f"),
                cell(100 * row["predicted_hit_as_predicted"]),
                *(cell(row[f"{p}ttft_p50_ms"]) for p in ("", "predicted_")),
                *(cell(row[f"{p}ttft_p95_ms"]) for p in ("", "predicted_")),
                *changes,
            ]
            found.append("|" + "|".join(f" {c} " if c else " " for c in cells) + "|")
            place = ""
    return found


def test_predicted_and_measured(replays: pd.DataFrame) -> None:
    text = (CHECKOUT / "docs/architecture.md").read_text(encoding="utf-8")
    assert len(lines(replays)) == 17
    assert "\n".join(lines(replays)) in text


def test_recorded_replays(replays: pd.DataFrame) -> None:
    """Hit rates, medians and P95 of resources/recorded/README.md and docs/live.md."""
    recorded = resource("recorded/README.md").read_text(encoding="utf-8")
    page = (CHECKOUT / "docs/live.md").read_text(encoding="utf-8")
    h200 = replays[replays["gpu"] == "NVIDIA H200"].set_index(["trace", "variant"])
    for (trace, variant), row in h200.iterrows():
        if "swebench" not in trace:
            hits = (
                f"{100 * row['token_hit_rate']:.1f} | {100 * row['predicted_token_hit_rate']:.1f}"
            )
            times = f"{row['ttft_p50_ms']:.0f} | {row['ttft_p95_ms']:.0f}"
            speed = f"{row['output_tokens_per_s']:.0f}"
            assert f"| {hits} | {times} | {speed} |" in recorded, (trace, variant)
        if variant == "marconi":
            stock = h200.loc[trace, "extra_buffer"]
            rates = [100 * stock["token_hit_rate"], 100 * row["token_hit_rate"]]
            p95 = [stock["ttft_p95_ms"], row["ttft_p95_ms"]]
            speed = f"{stock['output_tokens_per_s']:,.0f} → {row['output_tokens_per_s']:,.0f}"
            assert (
                f"| {rates[0]:.1f} → {rates[1]:.1f} % ({rates[1] / rates[0]:.2f}x) | "
                f"{p95[0]:,.0f} → {p95[1]:,.0f} ms ({100 * (p95[1] / p95[0] - 1):.0f} %) | {speed} |"
            ) in page
