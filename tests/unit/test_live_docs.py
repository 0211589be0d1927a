"""Tables in the documentation that repeat recorded replays: they have to say what the rows say."""

import pandas as pd
import pytest

from marconi_core.assets import resource
from marconi_core.replay.summary import ReplaySummary
from marconi_core.report import live
from marconi_core.report.claims import printed_values
from marconi_core.report.live_claims import interval, reductions
from marconi_core.report.predicted import read_predictions
from marconi_core.report.roles import PAPER_DATASETS
from marconi_core.serving.recordings import read_recordings, recorded_files
from marconi_core.serving.spec import CHECKOUT

SWEBENCH, TAU = "swebench_sps=1_art=5_nums=100", "tau_airline_sps=1_art=5_nums=200_tekken"
SHAREGPT, LONG = "sharegpt_sps=1_nums=100_tekken", "sharegpt_long_sps=1_nums=100_tekken"
H100, FIRST, SECOND, THIRD, FOURTH = (
    "2026-11-24-h100",
    *(f"2026-11-29-{name}" for name in ("h200", "h200b", "h200c", "h200d")),
)
# of architecture.md: times are of the same machine
PLACES = {
    (SECOND, f"{SWEBENCH}_tekken"): "H200, SWE-bench stand-in in Tekken, 50 states, 12 in flight",
    (SECOND, TAU): "H200, tau-airline, 60 states, 8 in flight",
    (SECOND, SHAREGPT): "H200, ShareGPT, the same",
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
    text = (CHECKOUT / "docs/architecture.md").read_text(encoding="utf-8")
    assert f"so in all {len(error)} rows of all machines" in text and error.notna().all()
    stock = replays[replays["variant"] == "no_buffer"].set_index("trace")[
        "predicted_hit_as_predicted"
    ]
    assert (stock.drop(TAU) == 1).all() and len(stock) == 4


LABELS = {
    "no_cache": "no cache", "no_buffer": "stock, `no_buffer`", "extra_buffer": "stock, `extra_buffer`",
}  # fmt: skip
HEADLINES = {
    (FIRST, f"{SWEBENCH}_tekken"): "SWE-bench agents (stand-in), three repeats | 50, 12",
    (FIRST, TAU): "tau-bench airline | 60, 8",
    (FIRST, SHAREGPT): "ShareGPT | 60, 8",
    (FIRST, LONG): "long chats (stand-in for LMSys) | 60, 8",
    (SECOND, f"{SWEBENCH}_tekken"): "SWE-bench agents (stand-in), a second machine, by `headline.yaml` | 50, 12",
    (THIRD, TAU): "tau-bench airline, a third machine | 60, 8",
    (THIRD, SHAREGPT): "ShareGPT, a third machine | 60, 8",
    (FOURTH, TAU): "tau-bench airline, a fourth machine, prefill graphs | 60, 8",
    (FOURTH, SHAREGPT): "ShareGPT, a fourth machine, prefill graphs | 60, 8",
}  # fmt: skip


@pytest.fixture(scope="module")
def recorded() -> str:
    return resource("recorded/README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page() -> str:
    return (CHECKOUT / "docs/live.md").read_text(encoding="utf-8")


def test_recorded_replays(replays: pd.DataFrame, recorded: str) -> None:
    """The tables of resources/recorded/README.md, each repeat of its own."""
    repeats: dict[tuple[str, str, str], list[ReplaySummary]] = {}
    for r in read_recordings(recorded_files("replay")):
        if r.occasion != H100:
            summary = ReplaySummary(**r.description["summary"])
            repeats.setdefault((r.occasion, r.trace, r.variant), []).append(summary)
    predicted = replays.set_index(["occasion", "trace", "variant"])["predicted_token_hit_rate"]
    for key, found in repeats.items():
        label = LABELS.get(key[2], f"`{key[2]}`") + (", three repeats" if len(found) == 3 else "")
        cells = [
            label,
            ", ".join(f"{100 * summary.token_hit_rate:.1f}" for summary in found),
            f"{100 * predicted[key]:.1f}",
            ", ".join(f"{summary.ttft_p50_ms:.0f}" for summary in found),
            ", ".join(f"{summary.ttft_p95_ms:.0f}" for summary in found),
            ", ".join(f"{summary.output_tokens_per_s:.0f}" for summary in found),
        ]
        assert f"| {' | '.join(cells)} |" in recorded, key


def test_marconi_beside_stock(replays: pd.DataFrame, page: str) -> None:
    """The first table of docs/live.md."""
    rows = replays.set_index(["occasion", "trace", "variant"])
    for place, label in HEADLINES.items():
        stock, ours = rows.loc[*place, "extra_buffer"], rows.loc[*place, "marconi"]
        rates = [100 * stock["token_hit_rate"], 100 * ours["token_hit_rate"]]
        p95 = [stock["ttft_p95_ms"], ours["ttft_p95_ms"]]
        speed = f"{stock['output_tokens_per_s']:,.0f} → {ours['output_tokens_per_s']:,.0f}"
        assert (
            f"| {label} | {rates[0]:.1f} → {rates[1]:.1f} % ({rates[1] / rates[0]:.2f}x) | "
            f"{p95[0]:,.0f} → {p95[1]:,.0f} ms ({100 * (p95[1] / p95[0] - 1):+.0f} %) | {speed} |"
        ) in page


def test_all_policies_beside_each_other(replays: pd.DataFrame, page: str) -> None:
    """The second table of docs/live.md: a row per variant, a cell per trace."""
    rows = replays.set_index(["occasion", "trace", "variant"])
    places = [(SECOND, f"{SWEBENCH}_tekken"), (THIRD, TAU), (THIRD, SHAREGPT)]
    for variant, label in (
        ("no_cache", "no cache"),
        ("extra_buffer", "stock, `extra_buffer`"),
        ("admission_only", "admission only (SGLang+ of the paper)"),
        ("marconi", "Marconi"),
        ("marconi_no_buffer", "Marconi, without overlap"),
    ):
        cells = [
            f"{row['ttft_p50_ms']:.0f}, {row['ttft_p95_ms']:,.0f}; {100 * row['token_hit_rate']:.1f} %"
            for row in (
                rows.loc[*place, variant] for place in places if (*place, variant) in rows.index
            )
        ]
        assert f"| {label} | {' | '.join(cells)} |" in page
    seglen = [
        100 * rows.loc[SECOND, trace, "seglen"]["token_hit_rate"] for trace in (SHAREGPT, TAU)
    ]
    said = f"{seglen[0]:.1f} % of ShareGPT and {seglen[1]:.1f} % of tau-airline"
    assert said in " ".join(page.split())


@pytest.mark.parametrize(
    ("baseline", "label", "measure"),
    [
        ("admission_only", "SGLang+ (admission only)", "ttft_points_under_sglang_plus"),
        ("no_cache", "no cache", "ttft_points_under_vanilla"),
    ],
)
def test_the_papers_claims(
    replays: pd.DataFrame, page: str, baseline: str, label: str, measure: str
) -> None:
    """The third table of docs/live.md: reductions in percent of no cache, with bootstrap intervals."""
    paper = printed_values(measure)
    printed = ", ".join(
        f"{PAPER_DATASETS[name]} {paper[name]}" for name in ("sharegpt", "swebench", "lmsys")
    )
    cells = [
        f"{name} {reduction(replays, occasion, trace, baseline)}"
        for name, (occasion, trace) in (
            ("ShareGPT", (THIRD, SHAREGPT)),
            ("SWE-bench (stand-in)", (SECOND, f"{SWEBENCH}_tekken")),
            ("tau-airline", (THIRD, TAU)),
        )
    ]
    assert f"| {label} | {printed} | {', '.join(cells)} |" in page


def reduction(replays: pd.DataFrame, occasion: str, trace: str, baseline: str) -> str:
    """Return Marconi's reduction of the P95, in percent of no cache's, with its bootstrap interval."""
    place = replays[(replays["occasion"] == occasion) & (replays["trace"] == trace)]
    found = reductions(place, [baseline]).iloc[0]
    rows = live.requests(read_recordings(recorded_files("replay")))
    low, high = interval(found, rows, "points")
    return f"{found['points']:.1f} ({low:.0f} to {high:.0f})"


def test_with_prefill_graphs(replays: pd.DataFrame, page: str) -> None:
    text = " ".join(page.split())
    tau, sharegpt = (reduction(replays, FOURTH, trace, "no_cache") for trace in (TAU, SHAREGPT))
    assert (
        f"P95 is {tau} percent lower than no cache's on tau-airline, and {sharegpt} on ShareGPT"
        in text
    )


def test_does_it_pay(replays: pd.DataFrame, page: str) -> None:
    """The decision section of docs/live.md."""
    rows = replays.set_index(["occasion", "trace", "variant"])
    four = ["no_cache", "extra_buffer", "admission_only", "marconi"]

    def values(occasion: str, trace: str, column: str) -> list[str]:
        return [f"{rows.loc[occasion, trace, variant][column]:,.0f}" for variant in four]

    def listed(found: list[str]) -> str:
        return f"{', '.join(found[:-1])} and {found[-1]}"

    text = " ".join(page.split())
    stand_in, speed, p95 = f"{SWEBENCH}_tekken", "output_tokens_per_s", "ttft_p95_ms"
    assert f"Marconi are {listed(values(SECOND, stand_in, speed))} on the stand-in" in text
    assert f"and {listed(values(THIRD, TAU, speed))} on tau-airline" in text
    assert f"it is {listed(values(THIRD, SHAREGPT, speed))} tokens a second" in text
    assert f"P95 of {listed(values(THIRD, SHAREGPT, p95))} ms" in text
    _, stock, admission, ours = values(SECOND, stand_in, p95)
    assert f"takes it from {stock} to {admission} ms and eviction to {ours}" in text
    _, stock, admission, ours = values(THIRD, TAU, p95)
    assert f"admission from {stock} to {admission} and eviction to {ours}." in text


def test_what_flop_awareness_adds(page: str) -> None:
    """Sentences of docs/policies.md and docs/live.md about the table of pools."""
    text = (CHECKOUT / "docs/policies.md").read_text(encoding="utf-8")
    lines = [line.strip("|\n").split("|") for line in text.splitlines() if line.startswith("|")]
    table = [[cell.strip(" *") for cell in line] for line in lines]
    [header] = [line for line in table if "alpha 0" in line and "paper's tuner" in line]
    first = table.index(header) + 2
    pools = pd.DataFrame(table[first : first + 33], columns=header)
    alpha_0, seglen, ours = (pools[name].astype(float) for name in ("alpha 0", "SegLen", "Marconi"))
    assert (ours >= alpha_0).all() and (ours == alpha_0).sum() == 12
    text, page = (" ".join(written.split()) for written in (text, page))
    assert "something in 21 rows, nothing in 12" in text and "in 12 of the 33 pools" in page
    assert f"up to {(ours - alpha_0).max():.1f} points (tau-airline" in text
    assert f"in {(seglen > ours).sum()} of 33 rows" in text
    assert f"Marconi is ahead in {(ours > seglen).sum()}" in text
