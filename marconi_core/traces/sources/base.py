"""What every source of conversations has in common."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from marconi_core.errors import DataError
from marconi_core.progress import Heartbeat
from marconi_core.traces.tokenizers import Encoder
from marconi_core.traces.trace import SessionTokens

logger = logging.getLogger(__name__)

T = TypeVar("T")


class SourceParams(BaseModel):
    """Options that every source has."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sessions: PositiveInt = Field(default=100, description="number of sessions")
    max_tokens: PositiveInt = Field(
        default=32768, description="a turn longer than this ends its session, tokens"
    )

    def needs(self, file: str) -> bool:
        """Whether a file of `Source.files_needed` is needed: none where `path` gives a copy."""
        return getattr(self, "path", None) is None


@dataclass(frozen=True)
class Source:
    """A reader for one data set.

    Attributes:
        name: key in `SOURCES`.
        summary: what it is, for people, in one line.
        params: model of the options.
        read: ``read(params, files, encode)`` yields the sessions; `files` gives the path of each
            of `files_needed`.
        files_needed: names in the registry of data sets, of which `files_for` chooses.
        needs_tokenizer: texts have to be tokenized; otherwise `encode` is not used.
        timed: the data set says when each request arrived.
        caveat: what every label has to say of the data, in few words; None if nothing.
        stands_in: for one of the paper's data sets that cannot be had.
    """

    name: str
    summary: str
    params: type[SourceParams]
    read: Callable[[Any, Mapping[str, Path], Encoder], Iterable[SessionTokens]]
    files_needed: tuple[str, ...] = ()
    needs_tokenizer: bool = True
    timed: bool = False
    caveat: str | None = None
    stands_in: bool = False

    def files_for(self, params: SourceParams) -> tuple[str, ...]:
        """Return the registered files that the options ask for."""
        return tuple(file for file in self.files_needed if params.needs(file))


def checked_messages(
    messages: Any, place: str, texts: Iterable[str] = ()
) -> list[Mapping[str, Any]]:
    """Return the messages of a conversation.

    Raises:
        DataError: not a list of objects, or one of them has no text under one of the given keys.
    """
    if not isinstance(messages, list):
        raise DataError(f"{place}: not a list of messages; fetch it again")
    for number, message in enumerate(messages):
        if not isinstance(message, Mapping):
            raise DataError(f"{place}: message {number} is no object; fetch it again")
        for key in texts:
            if not isinstance(message.get(key), str):
                raise DataError(f"{place}: message {number} has no text '{key}'; fetch it again")
    return messages


def first_sessions(conversations: Iterable[T], count: int, source: str) -> Iterator[T]:
    """Yield the first `count` conversations.

    Raises:
        DataError: the data set holds fewer that the source can use.
    """
    heartbeat = Heartbeat(logger, "%s: %d of %d sessions")
    found = 0
    for conversation in islice(conversations, count):
        yield conversation
        found += 1
        heartbeat.beat(source, found, count)
    if found < count:
        raise DataError(
            f"{source}: has only {found} conversations that fit; set 'sessions' to at most that"
        )
