"""Files of a measurement: rows as they come, and beside them where they come from.

A run that ends early leaves its rows and a JSON file whose `requests` is 0, short of `requests_planned`.
"""

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from marconi_core.files import write_json
from marconi_core.serving.hostpace import host_pace

AnyRow = TypeVar("AnyRow", bound=tuple[object, ...])


def record(
    rows: Iterable[AnyRow],
    path: Path,
    description: Mapping[str, Any],
    planned: int,
    of_rows: Callable[[Sequence[AnyRow]], Mapping[str, Any]] = lambda rows: {},
) -> list[AnyRow]:
    """Write a measurement while it is made; return its rows.

    Args:
        rows: named tuples of one kind, measured one by one.
        path: a CSV file; a JSON file goes beside.
        description: where they come from, for the JSON file.
        planned: how many there should be.
        of_rows: computes more for the JSON file when all are there.
    """
    beside = path.with_suffix(".json")
    document = {**description, "requests_planned": planned, "requests": 0}
    write_json(beside, document)
    with host_pace() as pace:
        found = write_as_they_come(rows, path)
    write_json(beside, {**document, **pace.described(), **of_rows(found), "requests": len(found)})
    return found


def write_as_they_come(rows: Iterable[AnyRow], path: Path) -> list[AnyRow]:
    """Write rows to a CSV file as they come; return them. A kill loses none of those that came."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kept: list[AnyRow] = []
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        for row in rows:
            if not kept:
                writer.writerow(row._fields)  # type: ignore[attr-defined]
            writer.writerow(row)
            file.flush()
            kept.append(row)
    return kept
