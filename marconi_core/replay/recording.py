"""Files of a replay: rows as they come, and after the last one the measurement.

A replay that ends early leaves ``NAME.partial.jsonl`` with its rows, and ``NAME.json`` whose `requests`
falls short of `requests_planned`; there is no ``NAME.csv``. It cannot be continued, because nobody can
put the cache back to where it was: the next attempt replays the whole trace. What is complete is
not replayed again.
"""

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from marconi_core.errors import MarconiError
from marconi_core.files import write_json
from marconi_core.replay.options import ReplayOptions
from marconi_core.replay.pace import planned
from marconi_core.replay.rows import ReplayRow, write_rows
from marconi_core.replay.summary import summarize
from marconi_core.serving.errors import ReplayError
from marconi_core.serving.recordings import read_description
from marconi_core.traces.trace import Trace

logger = logging.getLogger(__name__)

REAL, VIRTUAL = "real", "virtual"
"""Clocks of a replay: that of a server, live or simulated; that of `virtual`."""


def outputs(folder: Path, name: str, repeats: int | None = None) -> list[Path]:
    """Return the CSV files of a trace's replays: ``NAME.csv``, or ``NAME-1.csv`` and so on."""
    numbers = [""] if repeats is None else [f"-{k}" for k in range(1, repeats + 1)]
    return [folder / f"{name}{number}.csv" for number in numbers]


def partial_path(output: Path) -> Path:
    """Return where the rows of an unfinished replay are."""
    return output.with_suffix(".partial.jsonl")


def replayed(trace: Trace, options: ReplayOptions) -> dict[str, Any]:
    """Return what is replayed and how, as JSON; only the requests that are replayed matter."""
    count = planned(trace, options)
    return {
        "trace": trace.head(count).digest(),
        "options": options.model_dump(),
        "requests_planned": count,
    }


def is_complete(output: Path, wanted: Mapping[str, Any], made_by: Mapping[str, Any] = {}) -> bool:
    """Return whether a replay was recorded to its end.

    Args:
        output: its CSV file.
        wanted: what its JSON file must say, such as `replayed` and the server's `spec`.
        made_by: what its JSON file must say of how it was made, if that matters: else it is to be made
            again.

    Raises:
        ReplayError: it was, but of something else.
        DataError: its JSON file is damaged.
    """
    description = output.with_suffix(".json")
    if not (output.is_file() and description.is_file()):
        return False
    found = {"clock": REAL, **read_description(description)}
    if found.get("requests") != found.get("requests_planned"):
        return False
    if different := _different(found, wanted):
        raise ReplayError(
            f"{output}: holds a replay with another {', '.join(different)}; name another file, or "
            "delete this one"
        )
    return not _different(found, made_by)


def _different(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    wanted = json.loads(json.dumps(wanted))  # tuples become lists
    return [key for key, value in wanted.items() if found.get(key) != value]


def record_replay(
    trace: Trace,
    options: ReplayOptions,
    output: Path,
    description: Mapping[str, Any],
    replaying: Callable[[Callable[[ReplayRow], None]], list[ReplayRow]],
    after: Callable[[], Mapping[str, Any]] = dict,
    name: str | None = None,
) -> list[ReplayRow]:
    """Replay a trace and write it down.

    Args:
        output: a CSV file (see `ReplayRow`); a JSON file goes beside.
        description: where the measurement comes from, for the JSON file.
        replaying: replays it and returns the rows; called with what each row must be given to.
        after: called after the last row; more of the same. If it fails, the JSON file says how: the rows are
            complete.
        name: of the trace; None for that of the file.

    Returns:
        The rows.

    Raises:
        ServingError, PolicyError: a request failed. What came before is kept, see above.
    """
    named = {"trace_name": name} if name else {}
    document = {"clock": REAL, **description, **named, **replayed(trace, options), "requests": 0}
    beside, journal = output.with_suffix(".json"), partial_path(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.unlink(missing_ok=True)
    write_json(beside, document)
    finished = 0
    with journal.open("w", encoding="utf-8") as file:

        def keep(row: ReplayRow) -> None:
            nonlocal finished
            finished += not row.error
            file.write(json.dumps(row._asdict()) + "\n")
            file.flush()

        try:
            rows = replaying(keep)
        except BaseException as error:
            reason = str(error) or type(error).__name__
            write_json(beside, {**document, "requests": finished, "ended_by": reason})
            logger.warning("ended early; %d rows are in %s", finished, journal)
            raise
    write_rows(rows, output)
    try:
        more = after()
    except MarconiError as error:
        more = {"not_told": str(error)}
        logger.warning("complete, but the server did not say what it had done: %s", error)
    summary = summarize(rows)
    write_json(beside, {**document, **more, "requests": len(rows), "summary": summary._asdict()})
    journal.unlink()
    return rows
