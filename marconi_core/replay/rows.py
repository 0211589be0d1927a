"""One replayed request, and the files that hold many of them."""

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from marconi_core.files import atomic_path
from marconi_core.serving.errors import ReplayError


class ReplayRow(NamedTuple):
    """One request, a line of the recorded CSV. Times are seconds since the replay began.

    Attributes:
        request: its number in the trace, from 0.
        session, turn: where it belongs in the trace.
        prompt_tokens, cached_tokens, output_tokens: as the server counted.
        scheduled_s: when it arrives by the trace; 0 if arrival times are ignored.
        due_s: when everything was fulfilled that it had to wait for; `scheduled_s` or later.
        sent_s, first_token_s, end_s: sent, first and last token received; a failed request has
            `end_s` when the failure was seen and, before its first token, 0 in `first_token_s`.
        ttft_ms: milliseconds from sending to the first token.
        error: why it failed; empty for a measurement.
    """

    request: int
    session: int
    turn: int
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    scheduled_s: float
    due_s: float
    sent_s: float
    first_token_s: float
    end_s: float
    ttft_ms: float
    error: str = ""


_INTEGERS = frozenset(
    {"request", "session", "turn", "prompt_tokens", "cached_tokens", "output_tokens"}
)


def write_rows(rows: Iterable[ReplayRow], path: Path) -> None:
    """Write a CSV file, in the trace's order."""
    with atomic_path(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(ReplayRow._fields)
        writer.writerows(sorted(rows))


def read_rows(path: Path) -> list[ReplayRow]:
    """Read what `write_rows` wrote.

    Raises:
        ReplayError: names the file and line that is wrong.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = list(csv.reader(file))
    except OSError as error:
        raise ReplayError(f"{path}: {error.strerror}") from None
    if not lines or tuple(lines[0]) != ReplayRow._fields:
        raise ReplayError(f"{path}:1: not a replay; its columns are {', '.join(ReplayRow._fields)}")
    rows = []
    for number, line in enumerate(lines[1:], start=2):
        try:
            rows.append(ReplayRow(*_values(line)))  # type: ignore[arg-type]
        except ValueError as error:
            raise ReplayError(f"{path}:{number}: {error}") from None
    return rows


def _values(line: list[str]) -> Iterator[int | float | str]:
    for name, text in zip(ReplayRow._fields, line, strict=True):
        yield text if name == "error" else int(text) if name in _INTEGERS else float(text)
