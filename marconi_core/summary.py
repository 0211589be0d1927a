"""The results page: claims table, what could not be had, and what the figures do not show."""

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from marconi_core.findings import findings
from marconi_core.roles import Role

COLUMNS = {
    "figure": "figure",
    "text": "claim",
    "paper": "paper",
    "ours": "here",
    "unit": "unit",
    "reference_code": "authors' code",
    "data": "data",
    "verdict": "verdict",
}


def summary(
    claims: pd.DataFrame,
    runs: pd.DataFrame,
    roles: Sequence[Role],
    unavailable: Mapping[str, str],
    versions: Mapping[str, str],
) -> str:
    """Return the page as Markdown.

    Args:
        claims: what `marconi_core.claims.evaluate` returns.
        runs: rows of all data sets.
        roles: the data sets that have rows.
        unavailable: reason by name of each optional data set that could not be had.
        versions: versions that the results were computed with.
    """
    counts = claims["verdict"].value_counts(sort=False)
    lines = ["# Claims", "", ", ".join(f"{count} {name}" for name, count in counts.items()), ""]
    lines += [_row(COLUMNS.values()), _row(["---"] * len(COLUMNS))]
    lines += [_row(row) for row in claims[list(COLUMNS)].itertuples(index=False)]
    if unavailable:
        lines += ["", "# Data sets left out", ""]
        lines += [f"- `{name}`: {reason}" for name, reason in unavailable.items()]
    lines += ["", "# What the figures do not show"]
    for role in roles:
        lines += ["", f"## {role.label}", ""]
        lines += [f"- {text}" for text in findings(runs[runs["dataset"] == role.dataset])]
    lines += ["", "Computed with " + ", ".join(f"{k} {v}" for k, v in versions.items()) + ".", ""]
    return "\n".join(lines)


def _row(cells: Iterable[object]) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"
