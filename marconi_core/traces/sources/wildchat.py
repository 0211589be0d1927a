"""WildChat-1M: conversations of people with ChatGPT, with the filters of the paper's generator."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from marconi_core.traces.sessions import HistoryRule, tokenize
from marconi_core.traces.sources.base import Source, first_sessions
from marconi_core.traces.sources.hub import HubParams, mostly_ascii, read_rows
from marconi_core.traces.sources.lmsys import dialogue_turns
from marconi_core.traces.tokenizers import Encoder
from marconi_core.traces.trace import SessionTokens

REPOSITORY = "allenai/WildChat-1M"
KEPT_KEYS = ("content", "role")  # the others are the provider's bookkeeping, not prompt text


def read(params: HubParams, files: Mapping[str, Path], encode: Encoder) -> Iterator[SessionTokens]:
    """Yield the first English conversations that are long enough and mostly ASCII."""
    rows = read_rows(params, REPOSITORY, ("conversation", "turn", "language"), SOURCE.name)
    usable = (
        [{key: message[key] for key in KEPT_KEYS} for message in row["conversation"]]
        for row in rows
        if row["turn"] >= params.min_turns
        and row["language"] == "English"
        and mostly_ascii(row["conversation"])
    )
    chosen = first_sessions(usable, params.sessions, SOURCE.name)
    return tokenize(map(dialogue_turns, chosen), encode, HistoryRule(max_tokens=params.max_tokens))


SOURCE = Source(
    name="wildchat",
    summary="WildChat-1M: English conversations of people with ChatGPT, 10 turns or more",
    params=HubParams,
    read=read,
)
