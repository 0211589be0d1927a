"""The claims table: what the paper prints, what comes out here, on which data, and the verdict.

The paper's values and tolerances are data (``resources/expected/claims.csv``); verdicts are
computed from them, so a changed result changes its verdict.
"""

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from marconi_core.assets import resource
from marconi_core.errors import DataError
from marconi_core.report.metrics import (
    PAPER_DECIMALS,
    VANILLA,
    hit_rates,
    largest_ttft_reduction,
    p95_ttft,
    ratios,
    relative_gains,
)
from marconi_core.report.roles import PAPER_DATASETS, Role

POLICIES = ("vllm_plus", "sglang_plus", "marconi")

REPRODUCED, PARTLY, NOT = "reproduced", "partly reproduced", "not reproduced"
STAND_IN_ONLY, NO_DATA = "stand-in only", "no data"


class Claim(NamedTuple):
    """One row of ``claims.csv``; its README explains the columns."""

    claim: str
    figure: str
    paper_dataset: str
    text: str
    measure: str
    paper: str
    unit: str
    reference: str
    reproduced_within: str
    partly_within: float


class Measured(NamedTuple):
    """A measure computed the paper's way, and without the paper's intermediate rounding."""

    value: float
    exact: float


@dataclass(frozen=True)
class Results:
    """Result rows of one data set, with the tables that several measures share."""

    runs: pd.DataFrame
    requests: pd.DataFrame

    @cached_property
    def rates(self) -> pd.DataFrame:
        """Token hit rates in percent."""
        return hit_rates(self.runs, POLICIES)

    @cached_property
    def p95_ttft(self) -> pd.DataFrame:
        """P95 TTFT in milliseconds."""
        return p95_ttft(self.requests, POLICIES)


def _mean_ratio(results: Results, baseline: str) -> Measured:
    value, exact = (
        float(ratios(hit_rates(results.runs, POLICIES, decimals), "marconi", baseline).mean())
        for decimals in (PAPER_DECIMALS, None)
    )
    return Measured(value, exact)


def _p95_gain(results: Results, baseline: str) -> Measured:
    value, exact = (
        float(relative_gains(results.rates, "marconi", baseline, decimals).quantile(0.95))
        for decimals in (PAPER_DECIMALS, None)
    )
    return Measured(value, exact)


def _ttft_points(results: Results, baseline: str) -> Measured:
    points, _ = largest_ttft_reduction(results.p95_ttft, "marconi", baseline)
    return Measured(points, points)


def _ttft_ms(results: Results, baseline: str) -> Measured:
    _, milliseconds = largest_ttft_reduction(results.p95_ttft, "marconi", baseline)
    return Measured(milliseconds, milliseconds)


MEASURES: Mapping[str, tuple[Callable[[Results, str], Measured], str]] = {
    "mean_ratio_over_vllm_plus": (_mean_ratio, "vllm_plus"),
    "p95_gain_over_sglang_plus": (_p95_gain, "sglang_plus"),
    "ttft_points_under_vanilla": (_ttft_points, VANILLA),
    "ttft_points_under_vllm_plus": (_ttft_points, "vllm_plus"),
    "ttft_points_under_sglang_plus": (_ttft_points, "sglang_plus"),
    "ttft_ms_under_vanilla": (_ttft_ms, VANILLA),
    "ttft_ms_under_vllm_plus": (_ttft_ms, "vllm_plus"),
    "ttft_ms_under_sglang_plus": (_ttft_ms, "sglang_plus"),
}


def load_claims(path: Path | None = None) -> list[Claim]:
    """Read the table of claims (default: the one of the paper).

    Raises:
        DataError: a row names an unknown measure or data set, or a value is no number.
    """
    path = path or resource("expected/claims.csv")
    claims = []
    with path.open(newline="", encoding="utf-8") as file:
        for line, row in enumerate(csv.DictReader(file), start=2):
            try:
                claim = Claim(**{**row, "partly_within": float(row["partly_within"])})  # type: ignore[arg-type]
                float(claim.paper), float(claim.reference or 0)
                _ = MEASURES[claim.measure], PAPER_DATASETS[claim.paper_dataset]
            except (KeyError, TypeError, ValueError) as error:
                raise DataError(f"{path}:{line}: bad claim: {error}") from None
            claims.append(claim)
    return claims


def printed_values(measure: str) -> dict[str, str]:
    """Return the paper's value of a measure, as printed, by the paper's data set."""
    return {c.paper_dataset: c.paper for c in load_claims() if c.measure == measure}


def verdict(claim: Claim, value: float, *, stand_in: bool) -> str:
    """Judge one value against the paper's, by the claim's own tolerances."""
    if stand_in:
        return STAND_IN_ONLY
    paper = float(claim.paper)
    deviation = abs(value - paper) / abs(paper)
    if claim.reproduced_within == "digits":
        reproduced = _agrees(value, claim.paper)
    else:
        reproduced = deviation <= float(claim.reproduced_within)
    if reproduced:
        return REPRODUCED
    return PARTLY if deviation <= claim.partly_within else NOT


def _agrees(value: float, printed: str) -> bool:
    """Whether `value`, rounded to the digits of `printed`, is `printed`."""
    return f"{value:.{_decimals(printed)}f}" == printed


def _decimals(printed: str) -> int:
    return len(printed.partition(".")[2])


def evaluate(
    claims: Iterable[Claim],
    runs: pd.DataFrame,
    requests: pd.DataFrame,
    roles: Sequence[Role],
) -> pd.DataFrame:
    """Compute every claim on every data set that is, or stands in for, the claim's data set.

    Args:
        runs: rows of all data sets.
        requests: rows of all data sets.
        roles: the data sets that have rows.

    Returns:
        One row per claim and data set; claims without data have one row that says so.
    """
    results = {
        role.dataset: Results(
            runs[runs["dataset"] == role.dataset], requests[requests["dataset"] == role.dataset]
        )
        for role in roles
    }
    rows = []
    for claim in claims:
        fixed = {
            "claim": claim.claim,
            "figure": claim.figure,
            "text": claim.text,
            "paper": claim.paper,
            "unit": claim.unit,
        }
        suitable = [role for role in roles if role.paper_dataset == claim.paper_dataset]
        for role in suitable:
            measure, baseline = MEASURES[claim.measure]
            measured = measure(results[role.dataset], baseline)
            own_code = "" if role.stand_in else _reference_note(claim, measured.value)
            rows.append(
                fixed
                | {
                    "ours": f"{measured.value:.{_decimals(claim.paper)}f}",
                    "ours_exact": repr(measured.exact),
                    "reference_code": own_code,
                    "data": role.label,
                    "verdict": verdict(claim, measured.value, stand_in=role.stand_in),
                }
            )
        if not suitable:
            nothing = {"ours": "", "ours_exact": "", "reference_code": ""}
            data = f"none for {PAPER_DATASETS[claim.paper_dataset]}"
            rows.append(fixed | nothing | {"data": data, "verdict": NO_DATA})
    return pd.DataFrame(rows)


def _reference_note(claim: Claim, value: float) -> str:
    if not claim.reference:
        return ""
    same = _agrees(value, claim.reference)
    return f"{claim.reference} ({'same' if same else f'here {value:.6g}'})"
