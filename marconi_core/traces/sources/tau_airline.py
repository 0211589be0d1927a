"""tau-bench airline: tool-calling dialogues of gpt-4o, 50 tasks tried 4 times each.

Every session starts with the same long policy, and the trials of a task with the same request, so
much of a prompt is shared with other sessions.

Each assistant message is one request. Its prompt is every message before it (system, user,
assistant and tool alike, each as one JSON object), its output is that message. So the new messages
of a turn are what came since the last assistant message: the system message and the first user
message in turn 0, one user message or one tool result later. Messages after the last assistant
message belong to no request.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, PositiveInt

from marconi_core.traces.sessions import HistoryRule, Turn, message_json, tokenize
from marconi_core.traces.sources.base import Source, SourceParams, checked_messages, first_sessions
from marconi_core.traces.sources.jsonlines import read_json_lines
from marconi_core.traces.tokenizers import Encoder
from marconi_core.traces.trace import SessionTokens


class TauAirlineParams(SourceParams):
    """Options of `tau_airline`."""

    sessions: PositiveInt = Field(default=200, description="number of sessions, 200 is all")


def read(
    params: TauAirlineParams, files: Mapping[str, Path], encode: Encoder
) -> Iterator[SessionTokens]:
    """Yield the dialogues in the order of (trial, task)."""
    chosen = first_sessions(read_dialogues(files["tau_airline"]), params.sessions, SOURCE.name)
    return tokenize(chosen, encode, HistoryRule(max_tokens=params.max_tokens))


def read_dialogues(path: Path) -> Iterator[list[Turn]]:
    """Yield the turns of each line's dialogue."""
    for place, row in read_json_lines(path, "tau_airline"):
        messages = checked_messages(row.get("messages"), place, ("role",))
        users = [message for message in messages if message["role"] == "user"]
        checked_messages(users, place, ("content",))
        yield _tool_turns(messages)


def _tool_turns(messages: list[Mapping[str, Any]]) -> list[Turn]:
    turns: list[Turn] = []
    new: list[str] = []
    words = 0
    for message in messages:
        text = message_json(message)
        if message["role"] == "assistant":
            turns.append(Turn(tuple(new), text, words))
            new, words = [], 0
        else:
            new.append(text)
            if message["role"] == "user":
                words += message["content"].count(" ")
    return turns


SOURCE = Source(
    name="tau_airline",
    summary="tau-bench airline: tool-calling dialogues of gpt-4o, 50 tasks x 4 trials",
    params=TauAirlineParams,
    read=read,
    files_needed=("tau_airline",),
)
