"""What live servers say about the paper's claims, number by number, as far as they were measured.

A claim is compared in each place (occasion, server, load, trace and pool sizes) in which both of its policies were
replayed, both with overlap scheduling or both without. No server checkpoints every block as vLLM+ does, and the models and capacities of Figures 11
to 13 are none that were served: those claims have no live value.
"""

from collections.abc import Callable, Iterable, Mapping

import pandas as pd

from marconi_core.report.claims import Claim
from marconi_core.report.live import NO_CACHE, PLACE, SGLANG_PLUS, is_marconi, overlaps, reductions
from marconi_core.serving.recordings import SIMULATED


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


def live_values(claims: Iterable[Claim], replays: pd.DataFrame) -> dict[tuple[str, str], str]:
    """Return what was measured for each claim, as text, by claim and data set.

    Args:
        claims: the paper's.
        replays: what `live.table` returns; simulated servers are left out.
    """
    measured = replays[replays["server"] != SIMULATED]
    texts = {}
    for claim in claims:
        for dataset, own in measured.groupby("dataset"):
            values = _values(claim, own)
            if values:
                decimals = len(claim.paper.partition(".")[2])
                ends = dict.fromkeys(f"{v:.{decimals}f}" for v in (min(values), max(values)))
                texts[claim.claim, str(dataset)] = " to ".join(ends)
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
    measured = replays[replays["server"] != SIMULATED]
    sent = measured.assign(sent=measured["requests"] * measured["repeats"])
    counts = sent.groupby(["server", "trace", "load"], sort=False)["sent"].sum().reset_index()
    return "; ".join(
        f"{row['trace']} on {row['server']} ({row['sent']} requests; {row['load']})"
        for row in counts.to_dict("records")
    )
