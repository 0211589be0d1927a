"""The claims table: what the paper prints, what comes out here, on which data, and the verdict.

The paper's values and tolerances are data (``resources/expected/claims.csv``); verdicts are
computed from them, so a changed result changes its verdict.
"""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from marconi_core.assets import resource
from marconi_core.errors import DataError
from marconi_core.report.measures import FIGURE, FORMULAS, MEASURES, Measured, Results
from marconi_core.report.roles import PAPER_DATASETS, Role

REPRODUCED, PARTLY, NOT = "reproduced", "partly reproduced", "not reproduced"
STAND_IN_ONLY, OTHER_GRID, NO_DATA = "stand-in only", "other configurations", "no data"
VERDICTS = (REPRODUCED, PARTLY, NOT, STAND_IN_ONLY, OTHER_GRID, NO_DATA)


class Claim(NamedTuple):
    """One row of ``claims.csv``; its README explains the columns."""

    claim: str
    figure: str
    paper_dataset: str
    text: str
    measure: str
    at: str
    paper: str
    unit: str
    reference: str
    reproduced_within: str
    partly_within: float


class Rerun(NamedTuple):
    """The workflow's target that computes a figure's claims, and its minutes on two cores."""

    target: str
    minutes: str


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
                if MEASURES[claim.measure].needs != FORMULAS:
                    _ = PAPER_DATASETS[claim.paper_dataset]
            except (KeyError, TypeError, ValueError) as error:
                raise DataError(f"{path}:{line}: bad claim: {error}") from None
            claims.append(claim)
    return claims


def load_reruns() -> dict[str, Rerun]:
    """Return how each figure's claims are computed again, by figure."""
    with resource("expected/reruns.csv").open(newline="", encoding="utf-8") as file:
        return {row.pop("figure"): Rerun(**row) for row in csv.DictReader(file)}


def printed_values(measure: str) -> dict[str, str]:
    """Return the paper's value of a measure, as printed, by the paper's data set."""
    return {c.paper_dataset: c.paper for c in load_claims() if c.measure == measure}


def printed_by_claim() -> dict[str, str]:
    """Return the paper's value of every claim, as printed."""
    return {c.claim: c.paper for c in load_claims()}


def verdict(claim: Claim, value: float) -> str:
    """Judge one value against the paper's, by the claim's own tolerances."""
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
    experiments: Mapping[str, pd.DataFrame] | None = None,
    live: Mapping[tuple[str, str], str] | None = None,
) -> pd.DataFrame:
    """Compute every claim on every data set that is, or stands in for, the claim's data set.

    Args:
        runs: rows of all data sets.
        requests: rows of all data sets.
        roles: the data sets that have rows.
        experiments: rows of all data sets by the experiment's name; claims on figures that are
            missing here have no data.
        live: what was measured on servers, by claim and label (`live_claims.live_values`).

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
        measure = MEASURES[claim.measure]
        if measure.needs == FORMULAS:
            rows.append(_row(claim, measure.compute(claim.at), FORMULAS))
            continue
        found = 0
        for role in roles:
            source: Any = results[role.dataset]
            if measure.needs == FIGURE:
                source = _experiment(experiments or {}, claim.figure, role.dataset)
            if role.paper_dataset == claim.paper_dataset and source is not None:
                value = measure.compute(source, claim.at)
                row = _row(claim, value, role.label, _unjudged(role))
                rows.append(row | {"live": (live or {}).get((claim.claim, role.label), "")})
                found += 1
        if not found:
            nothing = {"ours": "", "ours_exact": "", "reference_code": ""}
            data = f"none for {PAPER_DATASETS[claim.paper_dataset]}"
            rows.append(_printed(claim) | nothing | {"data": data, "verdict": NO_DATA})
    reruns = load_reruns()
    table = pd.DataFrame(rows)
    return table.assign(
        rerun=[reruns[figure].target for figure in table["figure"]],
        minutes=[reruns[figure].minutes for figure in table["figure"]],
    )


def _experiment(
    experiments: Mapping[str, pd.DataFrame], figure: str, dataset: str
) -> pd.DataFrame | None:
    """Return the rows of the figure's experiment on a data set; panels a and b may share one."""
    for name in (f"fig{figure}", f"fig{figure.rstrip('ab')}"):
        if name in experiments:
            rows = experiments[name]
            own = rows[rows["dataset"] == dataset]
            return None if own.empty else own
    return None


def _printed(claim: Claim) -> dict[str, str]:
    return {
        "claim": claim.claim,
        "figure": claim.figure,
        "text": claim.text,
        "paper": claim.paper,
        "unit": claim.unit,
        "live": "",
    }


def _unjudged(role: Role) -> str:
    """Return why data is not judged by the paper's numbers; empty if it is."""
    if role.stand_in:
        return STAND_IN_ONLY
    return "" if role.papers_grid else OTHER_GRID


def _row(claim: Claim, value: Measured | float, data: str, unjudged: str = "") -> dict[str, str]:
    """Return a row of the table; `unjudged` says why there is no verdict, if there is none."""
    measured = value if isinstance(value, Measured) else Measured(value, value)
    return _printed(claim) | {
        "ours": f"{measured.value:.{_decimals(claim.paper)}f}",
        "ours_exact": repr(measured.exact),
        "reference_code": "" if unjudged else _reference_note(claim, measured.value),
        "data": data,
        "verdict": unjudged or verdict(claim, measured.value),
    }


def _reference_note(claim: Claim, value: float) -> str:
    if not claim.reference:
        return ""
    same = _agrees(value, claim.reference)
    return f"{claim.reference} ({'same' if same else f'here {value:.6g}'})"
