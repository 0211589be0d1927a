"""The results page: claims table, what could not be had, and what the figures do not show."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

import pandas as pd

from marconi_core.report.findings import findings
from marconi_core.report.roles import Role

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

HTML_HEAD = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>
body { font: 15px/1.4 sans-serif; max-width: 75em; margin: 2em auto; padding: 0 1em }
table { border-collapse: collapse } th, td { padding: .25em .6em; text-align: left }
tr { border-bottom: 1px solid #ddd }
</style>
"""


@dataclass(frozen=True)
class Section:
    """A heading with a line of text, a table or a list below it."""

    title: str
    text: str = ""
    table: pd.DataFrame | None = None
    items: Sequence[str] = ()


def summary(
    claims: pd.DataFrame,
    runs: pd.DataFrame,
    roles: Sequence[Role],
    unavailable: Mapping[str, str],
    versions: Mapping[str, str],
) -> list[Section]:
    """Return the page's sections.

    Args:
        claims: what `marconi_core.report.claims.evaluate` returns.
        runs: rows of all data sets.
        roles: the data sets that have rows.
        unavailable: reason by name of each optional data set that could not be had.
        versions: versions that the results were computed with.
    """
    counts = claims["verdict"].value_counts(sort=False)
    verdicts = ", ".join(f"{count} {name}" for name, count in counts.items())
    sections = [Section("Claims", verdicts, claims[list(COLUMNS)].rename(columns=COLUMNS))]
    if unavailable:
        reasons = [f"{name}: {reason}" for name, reason in unavailable.items()]
        sections.append(Section("Data sets left out", items=reasons))
    sections += [
        Section(
            f"What the figures do not show: {role.label}",
            items=list(findings(runs[runs["dataset"] == role.dataset])),
        )
        for role in roles
    ]
    computed_with = [f"{name} {version}" for name, version in versions.items()]
    return [*sections, Section("Versions", ", ".join(computed_with))]


def to_markdown(sections: Sequence[Section]) -> str:
    """Return the page as Markdown."""
    return "\n".join(line for section in sections for line in _markdown_lines(section))


def _markdown_lines(section: Section) -> Iterator[str]:
    yield from (f"## {section.title}", "")
    if section.text:
        yield from (section.text, "")
    if section.table is not None:
        rows = [list(section.table.columns), ["---"] * len(section.table.columns)]
        rows += section.table.to_numpy().tolist()
        yield from ("| " + " | ".join(map(str, row)) + " |" for row in rows)
        yield ""
    if section.items:
        yield from (f"- {item}" for item in section.items)
        yield ""


def to_html(sections: Sequence[Section], title: str = "Claims") -> str:
    """Return the page as one HTML file, for the report."""
    head = HTML_HEAD.replace("{title}", escape(title))
    return head + "\n".join(map(_html, sections)) + "\n"


def _html(section: Section) -> str:
    parts = [f"<h2>{escape(section.title)}</h2>"]
    if section.text:
        parts.append(f"<p>{escape(section.text)}</p>")
    if section.table is not None:
        parts.append(section.table.to_html(index=False, border=0))
    if section.items:
        parts.append("<ul>" + "".join(f"<li>{escape(i)}</li>" for i in section.items) + "</ul>")
    return "\n".join(parts)
