"""ShareGPT: conversations of people with ChatGPT, the paper's data set.

The package index serves the head of the published file: the JSON array is cut off inside a record.
The paper takes the first 100 conversations with at least 20 messages, all of which are in the head.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ijson
from pydantic import Field, PositiveInt

from marconi_core.errors import DataError
from marconi_core.progress import Heartbeat
from marconi_core.traces.sessions import HistoryRule, Turn, paired_turns, tokenize
from marconi_core.traces.sources.base import Source, SourceParams, checked_messages, first_sessions
from marconi_core.traces.tokenizers import Encoder
from marconi_core.traces.trace import SessionTokens

logger = logging.getLogger(__name__)

Record = dict[str, Any]  # {"id": str, "conversations": [{"from": str, "value": str}, ...]}


class ShareGptParams(SourceParams):
    """Options of `sharegpt`."""

    min_messages: PositiveInt = Field(
        default=20, description="conversations with fewer messages are left out"
    )


def read(
    params: ShareGptParams, files: Mapping[str, Path], encode: Encoder
) -> Iterator[SessionTokens]:
    """Yield the first conversations that are long enough, in the order of the file."""
    chosen = chosen_records(files["sharegpt"], params)
    conversations = (dialogue_turns(record["conversations"]) for record in chosen)
    return tokenize(conversations, encode, HistoryRule(max_tokens=params.max_tokens))


def chosen_records(path: Path, params: ShareGptParams) -> Iterator[Record]:
    """Yield the records that make up the data set of the paper."""
    long_enough = (
        record
        for record in complete_records(path)
        if len(record["conversations"]) >= params.min_messages
    )
    return first_sessions(long_enough, params.sessions, SOURCE.name)


def complete_records(path: Path) -> Iterator[Record]:
    """Stream the records of the file; at a cut-off end, log how many were complete.

    Raises:
        DataError: the file is missing, or is damaged other than by being cut off.
    """
    heartbeat = Heartbeat(logger, "%s: %d records read")
    count = 0
    try:
        with path.open("rb") as file:
            for record in ijson.items(file, "item", use_float=True):
                _check(record, f"{path}: record {count}")
                yield record
                count += 1
                heartbeat.beat(path.name, count)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; fetch the 'sharegpt' data set first") from error
    except ijson.IncompleteJSONError:
        logger.info("%s: %d complete records; the last one is cut off", path.name, count)
    except (ijson.JSONError, ValueError) as error:
        raise DataError(
            f"{path}: damaged after record {count} ({error}); fetch it again"
        ) from error
    if count == 0:
        raise DataError(f"{path}: holds no complete record; fetch it again")


def _check(record: Any, place: str) -> None:
    """Raise DataError unless it is a record."""
    if not isinstance(record, dict) or not isinstance(record.get("id"), str):
        raise DataError(f"{place}: has no 'id'; fetch it again")
    checked_messages(record.get("conversations"), place, ("from", "value"))


def dialogue_turns(messages: Sequence[Mapping[str, Any]]) -> list[Turn]:
    """Return the turns of a conversation; user words are counted in the raw text."""
    return paired_turns(messages, (message["value"].count(" ") for message in messages[0::2]))


SOURCE = Source(
    name="sharegpt",
    summary="ShareGPT: conversations of people with ChatGPT, 20 messages or more",
    params=ShareGptParams,
    read=read,
    files_needed=("sharegpt",),
)
