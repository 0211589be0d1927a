"""The results page: verdict table, what could not be had, and what the figures do not show."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

import pandas as pd

from marconi_core.report.claims import NO_DATA, OTHER_GRID, STAND_IN_ONLY, VERDICTS
from marconi_core.report.findings import findings
from marconi_core.report.roles import Role

COLUMNS = {
    "figure": "figure",
    "text": "claim",
    "paper": "paper",
    "ours": "simulated",
    "live": "live",
    "unit": "unit",
    "reference_code": "authors' code",
    "data": "data",
    "verdict": "verdict (simulated)",
    "rerun": "rerun",
    "minutes": "min",
}
RERUN = "Each row again: snakemake --cores 2 and the target under rerun; min: minutes on two cores."

HTML_HEAD = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>
body { font: 15px/1.4 sans-serif; max-width: 80em; margin: 2em auto; padding: 0 1em }
table { border-collapse: collapse } th, td { padding: .25em .6em; text-align: left }
th { vertical-align: bottom } tr { border-bottom: 1px solid #ddd }
</style>
"""
# The report's first page is narrow, centred and beside the graph of rules: not so with a table.
FRONT_STYLE = """<style>
.prose:has(.verdicts) { max-width: none }
.h-screen:has(.verdicts) { align-items: flex-start }
.flex:has(> * > .prose .verdicts) { flex-direction: column }
.verdicts table { font-size: 13px; line-height: 1.35; margin: .6em 0 1.4em }
.verdicts th, .verdicts td { padding: .15em .6em .15em 0; text-align: left }
.verdicts h2 { font-size: 1.25em; margin: 1em 0 .3em } .verdicts p { margin: .3em 0 }
</style>
"""


@dataclass(frozen=True)
class Section:
    """A heading with a line of text, a table or a list below it."""

    title: str
    text: str = ""
    table: pd.DataFrame | None = None
    items: Sequence[str] = ()


def verdicts(claims: pd.DataFrame, live: str = "") -> list[Section]:
    """Return the verdict table: what can be judged first, then stand-ins, then what has no data.

    Args:
        claims: what `marconi_core.report.claims.evaluate` returns.
        live: where the live values come from, in words.
    """
    counts = claims["verdict"].value_counts()
    counted = ", ".join(f"{counts[name]} {name}" for name in VERDICTS if name in counts)
    sections = [Section("Claims", f"{counted}. {RERUN}")]
    judged = ~claims["verdict"].isin([STAND_IN_ONLY, OTHER_GRID, NO_DATA])
    own_grid = claims["verdict"] == OTHER_GRID
    for title, rows, without in (
        ("Judged: the paper's own data, and formulas", judged, []),
        (
            "The paper's own data, but not its configurations: not judged",
            own_grid,
            ["reference_code"],
        ),
        ("Stand-ins: shown, not judged", claims["verdict"] == STAND_IN_ONLY, ["reference_code"]),
        ("No data", claims["verdict"] == NO_DATA, ["ours", "live", "reference_code"]),
    ):
        if rows.any():
            columns = {name: head for name, head in COLUMNS.items() if name not in without}
            table = claims.loc[rows, list(columns)].replace("", "-").rename(columns=columns)
            sections.append(Section(title, table=table))
    source = f"{live}; a range is over pool sizes and loads." if live else "No replay recorded."
    return [*sections, Section("Where live values come from", source)]


def summary(
    claims: pd.DataFrame,
    runs: pd.DataFrame,
    roles: Sequence[Role],
    unavailable: Mapping[str, str],
    versions: Mapping[str, str],
    live: str = "",
) -> list[Section]:
    """Return the page's sections.

    Args:
        claims: what `marconi_core.report.claims.evaluate` returns.
        runs: rows of all data sets.
        roles: the data sets that have rows.
        unavailable: reason by name of each optional data set that could not be had.
        versions: versions that the results were computed with.
        live: where the live values come from, in words.
    """
    sections = verdicts(claims, live)
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


def to_front(sections: Sequence[Section]) -> str:
    """Return sections as a part of the report's first page."""
    body = "\n".join(map(_html, sections))
    return f'{FRONT_STYLE}<div class="verdicts">\n{body}\n</div>\n'


def _html(section: Section) -> str:
    parts = [f"<h2>{escape(section.title)}</h2>"]
    if section.text:
        parts.append(f"<p>{escape(section.text)}</p>")
    if section.table is not None:
        parts.append(section.table.to_html(index=False, border=0))
    if section.items:
        parts.append("<ul>" + "".join(f"<li>{escape(i)}</li>" for i in section.items) + "</ul>")
    return "\n".join(parts)
