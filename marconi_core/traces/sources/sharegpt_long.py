"""Long ShareGPT conversations, joined from their parts: a stand-in for LMSys-Chat-1M.

The published file splits long conversations: the record ``XXXX_7`` begins with message 7 of
conversation ``XXXX``, which is often the last message of the record before it, repeated. Parts of a
conversation are neighbours in the file.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from pydantic import Field, PositiveInt

from marconi_core.errors import DataError
from marconi_core.traces.sessions import HistoryRule, tokenize
from marconi_core.traces.sources.base import Source, SourceParams, first_sessions
from marconi_core.traces.sources.sharegpt import (
    Record,
    ShareGptParams,
    chosen_records,
    complete_records,
    dialogue_turns,
)
from marconi_core.traces.tokenizers import Encoder
from marconi_core.traces.trace import SessionTokens

logger = logging.getLogger(__name__)


class ShareGptLongParams(SourceParams):
    """Options of `sharegpt_long`."""

    min_rounds: PositiveInt = Field(
        default=10, description="joined conversations with fewer rounds are left out"
    )


def read(
    params: ShareGptLongParams, files: Mapping[str, Path], encode: Encoder
) -> Iterator[SessionTokens]:
    """Yield joined conversations which the `sharegpt` source (with its defaults) does not use."""
    path = files["sharegpt"]
    used = {_split_id(record)[0] for record in chosen_records(path, ShareGptParams())}
    usable = (
        messages
        for conversation, messages in joined_conversations(complete_records(path))
        if len(messages) >= 2 * params.min_rounds
        and conversation not in used
        and _alternates(messages)
    )
    chosen = first_sessions(usable, params.sessions, SOURCE.name)
    conversations = (dialogue_turns(messages) for messages in chosen)
    return tokenize(conversations, encode, HistoryRule(max_tokens=params.max_tokens))


def joined_conversations(
    records: Iterable[Record],
) -> Iterator[tuple[str, list[Mapping[str, Any]]]]:
    """Yield (conversation id, messages); a message that two parts share is kept once."""
    for conversation, parts in groupby(records, key=lambda record: _split_id(record)[0]):
        messages: list[Mapping[str, Any]] = []
        for part in parts:
            first_message = _split_id(part)[1]
            messages[first_message:] = part["conversations"]
        yield conversation, messages


def _split_id(record: Record) -> tuple[str, int]:
    """Return the conversation's id and the position of the record's first message in it."""
    conversation, _, position = record["id"].rpartition("_")
    if not (position.isdecimal() and len(position) < 10):
        raise DataError(
            f"sharegpt: id {record['id']!r:.80} does not end with a position; fetch it again"
        )
    return conversation, int(position)


def _alternates(messages: list[Mapping[str, Any]]) -> bool:
    """Whether a person and ChatGPT take turns; a few have system messages or two in a row."""
    return all(
        message["from"] == ("human", "gpt")[position % 2]
        for position, message in enumerate(messages)
    )


SOURCE = Source(
    name="sharegpt_long",
    summary="Long ShareGPT conversations (10 rounds or more, parts joined), a stand-in for LMSys",
    params=ShareGptLongParams,
    read=read,
    files_needed=("sharegpt",),
    stands_in=True,  # for conversations of LMSys-Chat-1M of 10 rounds or more
)
