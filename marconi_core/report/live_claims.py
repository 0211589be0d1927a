"""What live servers say about the paper's claims.

A claim is compared in each place (`PLACE`) in which both of its policies were replayed, both with overlap
scheduling or both without. Variants with further options of the plug-in are left out. No server checkpoints
every block as vLLM+ does, and the models and capacities of Figures 11 to 13 are none that were served: those
claims have no live value.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from marconi_core.report.claims import Claim, printed_values
from marconi_core.report.roles import PAPER_DATASETS
from marconi_core.serving.recordings import PLACE, is_simulated, name_of, recorded_as
from marconi_core.serving.spec import STRATEGIES, VARIANTS

NO_CACHE = "no_cache"
# the paper's SGLang+: Marconi's admission, evicting the least recently used
SGLANG_PLUS = ("admission_only", "admission_only_no_buffer")
# Not the words of `claims`, which judges digits: other model, GPU and load than the paper's.
HELD, PARTLY, NOT = "as large or larger", "seen, smaller", "not seen"
UNCLEAR, NO_VERDICT = "not told from none", "no verdict"
DRAWS = 4000


def is_marconi(variant: str) -> bool:
    """Return whether a variant (see `Recording.variant`) is Marconi, tuned or at a fixed alpha, and no more."""
    return variant.startswith("marconi") and " " not in variant


def overlaps(variant: str) -> bool:
    """Return whether a variant prepares a batch while another runs; without a cache SGLang does."""
    return VARIANTS[name_of(variant)].strategy != "no_buffer"


def reductions(replays: pd.DataFrame, baselines: Sequence[str]) -> pd.DataFrame:
    """Return by how much Marconi lowers the P95 TTFT of some baselines.

    Marconi is the best of its variants, tuned or at a fixed alpha, with the same scheduling (overlap or not)
    as the baseline. `points` are percent of the P95 without a cache, as the paper counts; `percent` is
    relative to the baseline.

    Args:
        replays: what `live.table` returns.

    Returns:
        One row per place and baseline that Marconi can be compared with.
    """
    found = []
    for place, group in replays.groupby(PLACE, sort=False):
        p95 = group.set_index("variant")["ttft_p95_ms"]
        for baseline in p95.index.intersection(list(baselines), sort=False):
            ours = p95[[is_marconi(v) and overlaps(v) == overlaps(baseline) for v in p95.index]]
            if ours.empty:
                continue
            saved = p95[baseline] - ours.min()
            found.append(
                dict(zip(PLACE, place, strict=True))
                | {"data": group["data"].iloc[0]}
                | {"marconi": ours.idxmin(), "baseline": baseline}
                | {"ms": saved, "percent": 100 * saved / p95[baseline]}
                | {"points": 100 * saved / p95.get(NO_CACHE, float("nan"))}
            )
    columns = [*PLACE, "data", "marconi", "baseline", "ms", "percent", "points"]
    return pd.DataFrame(found, columns=columns)


def interval(row: pd.Series, requests: pd.DataFrame, column: str) -> tuple[float, float]:
    """Return 95 % of a reduction over draws of the requests (bootstrap), the same ones of every replay.

    Args:
        row: of `reductions`.
        requests: what `live.requests` returns.
        column: `points` or `percent`.
    """
    own = requests[(requests[PLACE] == row[PLACE]).all(axis=1)]
    draws = np.random.default_rng(1).integers(row["requests"], size=(DRAWS, row["requests"]))

    def p95(variant: str) -> NDArray[np.float64]:
        repeats = own[own["variant"] == variant].sort_values("request").groupby("replay")["ttft_ms"]
        found = [np.percentile(ttft.to_numpy()[draws], 95, axis=1) for _, ttft in repeats]
        return np.asarray(np.median(found, axis=0))

    baseline = p95(row["baseline"])
    whole = p95(NO_CACHE) if column == "points" else baseline
    low, high = np.percentile(100 * (baseline - p95(row["marconi"])) / whole, [2.5, 97.5])
    return float(low), float(high)


def claims(replays: pd.DataFrame, requests: pd.DataFrame) -> pd.DataFrame:
    """Return the paper's claims about time to first token beside what was measured: one row per claim, data
    set and server.

    A claim about a data set is judged by the largest reduction: at least the paper's; smaller, with an interval
    above 0; not above 0 itself; in between it cannot be told from none. There is no verdict on simulated
    servers, on data other than the paper's own (stand-ins included), and where no server without a cache was
    measured, as the paper's percent are of its P95.

    Args:
        replays: what `live.table` returns.
        requests: what `live.requests` returns.
    """
    rows = [
        _row("vLLM+", data, paper, "not measured: no server checkpoints every block of 32 tokens")
        for data, paper in _printed("ttft_points_under_vllm_plus").items()
    ]
    for name, baselines, measure in (
        ("no cache", (NO_CACHE,), "ttft_points_under_vanilla"),
        ("SGLang+ (admission only)", SGLANG_PLUS, "ttft_points_under_sglang_plus"),
        *((f"stock SGLang, `{s}` (not in the paper)", (s,), "") for s in STRATEGIES),
    ):
        printed = _printed(measure) if measure else {}
        for (server, data), group in replays.groupby(["server", "data"], sort=False):
            found = reductions(group, baselines)
            paper = printed.get(str(data), "")
            if not found.empty:
                judged_by = "" if is_simulated(str(server)) else paper
                here, verdict = _judged(found, requests, judged_by, bool(measure))
                rows.append(_row(name, str(data), paper, here, str(server), verdict))
    return pd.DataFrame(rows)


def _printed(measure: str) -> dict[str, str]:
    """Return the paper's values by the label of its data set."""
    return {PAPER_DATASETS[name]: value for name, value in printed_values(measure).items()}


def _row(
    baseline: str, data: str, paper: str, here: str, server: str = "", verdict: str = NO_VERDICT
) -> dict[str, str]:
    return {
        "P95 TTFT lower than": baseline,
        "data": data,
        "paper, up to": f"{paper} %" if paper else "",
        "here, up to": here,
        "server": server,
        "verdict": verdict,
    }


def _judged(
    found: pd.DataFrame, requests: pd.DataFrame, paper: str, of_no_cache: bool
) -> tuple[str, str]:
    """Return the largest reduction in words, the least if there are several, and the verdict.

    Args:
        found: rows of `reductions`.
        requests: of which they are.
        paper: the paper's value; empty if there is nothing to judge by.
        of_no_cache: count in percent of the P95 without a cache where there is one, as the paper does.
    """
    column, comparable = "points", found.dropna(subset="points")
    if not of_no_cache or comparable.empty:  # percent of the baseline are no percent of no cache
        column, comparable = "percent", found
    ordered = comparable.sort_values(column)
    best, least = ordered.iloc[-1], ordered.iloc[0]
    low, high = interval(best, requests, column)
    words = _in_words(best, column, (low, high))
    if len(ordered) > 1:
        words += f"; least: {_in_words(least, column, interval(least, requests, column))}"
    if not paper or column == "percent":
        return words, NO_VERDICT
    if best[column] >= float(paper):
        return words, HELD
    return words, PARTLY if low > 0 else UNCLEAR if best[column] > 0 else NOT


def _in_words(row: pd.Series, column: str, within: tuple[float, float]) -> str:
    """Return a reduction, its interval, and where it was seen."""
    amount = f"{row[column]:.1f} % ({within[0]:.0f} to {within[1]:.0f})"
    of_baseline = f"{row['percent']:.1f} % of {row['baseline']}"
    if column == "percent":
        words = f"{amount} of {row['baseline']}: "
    else:
        also = "" if row["baseline"] == NO_CACHE else f"{of_baseline}, "
        words = f"{amount} of no cache: {also}"
    return (
        f"{words}{row['ms']:.0f} ms, {row['marconi']}; {row['trace']}; {row['states']} states; "
        f"{row['load']}{recorded_as(row['occasion'])}"
    )


def _value(place: pd.DataFrame, policy: str, column: str, best: str) -> float:
    """Return a policy's `best` (``max`` or ``min``) value in one place, NaN if it was not replayed."""
    variants = place["variant"]
    if policy == "marconi":
        own = place[variants.map(is_marconi)]
    else:
        own = place[variants.isin(SGLANG_PLUS if policy == "sglang_plus" else ())]
    return float(own[column].agg(best)) if len(own) else float("nan")


def _hits(place: pd.DataFrame, at: str) -> float:
    return 100 * _value(place, at, "token_hit_rate", "max")


def _hit_gain(place: pd.DataFrame, at: str) -> float:
    before = _hits(place, "sglang_plus")
    return 100 * (_hits(place, "marconi") / before - 1) if before else float("nan")


def _ttft(place: pd.DataFrame, at: str) -> tuple[float, float]:
    column = f"ttft_p{at}_ms"
    return _value(place, "sglang_plus", column, "min"), _value(place, "marconi", column, "min")


def _ttft_ms(place: pd.DataFrame, at: str) -> float:
    before, after = _ttft(place, at)
    return before - after


def _ttft_percent(place: pd.DataFrame, at: str) -> float:
    before, after = _ttft(place, at)
    return 100 * (before - after) / before


IN_EACH_PLACE: Mapping[str, Callable[[pd.DataFrame, str], float]] = {
    "hit_rate_percent": _hits,
    "hit_gain": _hit_gain,
    "ttft_reduction_percent": _ttft_percent,
    "ttft_reduction_ms": _ttft_ms,
}

BASELINES = {"vanilla": (NO_CACHE,), "sglang_plus": SGLANG_PLUS}
OF_THE_BEST_PLACE = {
    f"ttft_{column}_under_{name}": (column, variants)
    for name, variants in BASELINES.items()
    for column in ("points", "ms")
}


def _measured(replays: pd.DataFrame) -> pd.DataFrame:
    """Return the replays on servers that are not simulated."""
    return replays[~replays["server"].map(is_simulated).astype(bool)]


def live_values(claims: Iterable[Claim], replays: pd.DataFrame) -> dict[tuple[str, str], str]:
    """Return what was measured for each claim, as text, by claim and label of the data set.

    Args:
        claims: the paper's.
        replays: what `live.table` returns; simulated servers are left out.
    """
    measured = _measured(replays)
    texts = {}
    for claim in claims:
        for data, own in measured.groupby("data"):
            values = _values(claim, own)
            if values:
                decimals = len(claim.paper.partition(".")[2])
                ends = dict.fromkeys(f"{v:.{decimals}f}" for v in (min(values), max(values)))
                texts[claim.claim, str(data)] = " to ".join(ends)
    return texts


def _values(claim: Claim, replays: pd.DataFrame) -> list[float]:
    if claim.measure in OF_THE_BEST_PLACE:
        column, baselines = OF_THE_BEST_PLACE[claim.measure]
        found = reductions(replays, baselines).dropna(subset="points")
        return found.sort_values("points")[column].tail(1).tolist()
    if claim.measure in IN_EACH_PLACE:
        compute = IN_EACH_PLACE[claim.measure]
        alike = [*PLACE, replays["variant"].map(overlaps)]
        values = (compute(place, claim.at) for _, place in replays.groupby(alike, sort=False))
        return [value for value in values if not pd.isna(value)]
    return []


def servers(replays: pd.DataFrame) -> str:
    """Return which replays there are, in words; empty if there are none."""
    measured = _measured(replays)
    sent = measured.assign(sent=measured["requests"] * measured["repeats"])
    counts = sent.groupby(["server", "trace", "load"], sort=False)["sent"].sum().reset_index()
    return "; ".join(
        f"{row['trace']} on {row['server']} ({row['sent']} requests; {row['load']})"
        for row in counts.to_dict("records")
    )
