"""LMSys-Chat-1M: conversations of people with 25 models, the paper's data set (access is granted on
request)."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from marconi_core.traces.sessions import HistoryRule, Turn, paired_turns, tokenize
from marconi_core.traces.sources.base import Source, first_sessions
from marconi_core.traces.sources.hub import MESSAGE_KEYS, HubParams, mostly_ascii, read_rows
from marconi_core.traces.tokenizers import Encoder
from marconi_core.traces.trace import SessionTokens

REPOSITORY = "lmsys/lmsys-chat-1m"


def read(params: HubParams, files: Mapping[str, Path], encode: Encoder) -> Iterator[SessionTokens]:
    """Yield the first conversations that are long enough and mostly ASCII."""
    rows = read_rows(params, REPOSITORY, ("conversation", "turn"), SOURCE.name)
    usable = (
        [{k: v for k, v in message.items() if k in MESSAGE_KEYS} for message in row["conversation"]]
        for row in rows
        if row["turn"] >= params.min_turns and mostly_ascii(row["conversation"])
    )
    chosen = first_sessions(usable, params.sessions, SOURCE.name)
    rule = HistoryRule(max_tokens=params.max_tokens, count_output=True)
    return tokenize(map(dialogue_turns, chosen), encode, rule)


def dialogue_turns(messages: Sequence[Mapping[str, Any]]) -> list[Turn]:
    """Return the turns; user words are counted in the JSON of the text, as in the paper."""
    return paired_turns(messages, (json.dumps(m["content"]).count(" ") for m in messages[0::2]))


SOURCE = Source(
    name="lmsys",
    summary="LMSys-Chat-1M: conversations of people with chat models, 10 turns or more",
    params=HubParams,
    read=read,
)
