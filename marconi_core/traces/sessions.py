"""From conversations to the requests that a server would see.

A conversation is a list of turns: some new messages, and the reply to them. The prompt of a turn is
the history plus the new messages, so every request repeats what came before it. As the paper's
generator does, each message is tokenized on its own as a whole JSON object with BOS in front, and a
session ends at the first turn that exceeds a length limit. Agents additionally drop old
observations from their history ("collapse", SWE-agent, arXiv 2405.15793), which breaks the prefix.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marconi_core.traces.tokenizers import Encoder
from marconi_core.traces.trace import SessionTokens, TurnTokens

TokenArray = NDArray[np.int32]
EMPTY: TokenArray = np.empty(0, np.int32)


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a conversation in text.

    Attributes:
        messages: what is new in the prompt, each message as JSON.
        reply: the recorded answer, as JSON.
        user_words: spaces in the user's message, which drive the typing time.
    """

    messages: tuple[str, ...]
    reply: str
    user_words: int


@dataclass(frozen=True, slots=True)
class NewTokens:
    """One turn of a conversation in tokens, before the history is put in front."""

    input_tokens: TokenArray
    output_tokens: TokenArray
    user_words: int


@dataclass(frozen=True, slots=True)
class HistoryRule:
    """How long a session may grow, and what an agent forgets.

    Attributes:
        max_tokens: a turn with a longer prompt ends the session.
        count_output: the reply counts towards `max_tokens` too.
        max_turns: turns a session may have; None is no limit.
        keep_observations: an agent's history keeps the first observation (the task) and this many
            of the latest; those between are dropped. Its actions (outputs) stay. None: all stay.
    """

    max_tokens: int = 32768
    count_output: bool = False
    max_turns: int | None = None
    keep_observations: int | None = None


def message_json(message: Mapping[str, Any]) -> str:
    """Return a message as the paper tokenizes it: a JSON object with ASCII escapes."""
    return json.dumps(message)


def paired_turns(messages: Sequence[Mapping[str, Any]], words: Iterable[int]) -> list[Turn]:
    """Return the turns of a dialogue in which user (even) and assistant (odd messages) alternate.

    A last message without a reply is left out.

    Args:
        words: `Turn.user_words` of each turn.
    """
    pairs = zip(messages[0::2], messages[1::2], strict=False)
    return [
        Turn((message_json(user),), message_json(assistant), count)
        for (user, assistant), count in zip(pairs, words, strict=False)
    ]


def tokenize(
    conversations: Iterable[list[Turn]], encode: Encoder, rule: HistoryRule
) -> Iterator[SessionTokens]:
    """Yield the sessions of conversations, labelled from 0; each message is encoded once."""
    for session_id, turns in enumerate(conversations):
        yield unroll(session_id, encode_turns(turns, encode), rule)


def encode_turns(turns: list[Turn], encode: Encoder) -> list[NewTokens]:
    """Encode all messages of a conversation in one batch."""
    arrays = iter(encode([text for turn in turns for text in (*turn.messages, turn.reply)]))
    return [
        NewTokens(
            input_tokens=np.concatenate([EMPTY, *(next(arrays) for _ in turn.messages)]),
            output_tokens=next(arrays),
            user_words=turn.user_words,
        )
        for turn in turns
    ]


def unroll(session_id: int | str, turns: Iterable[NewTokens], rule: HistoryRule) -> SessionTokens:
    """Put the history in front of each turn, up to the turn that breaks a limit."""
    observations: list[TokenArray] = []  # dropped ones are empty
    actions: list[TokenArray] = []
    requests: list[TurnTokens] = []
    drawn_turns = 0
    for new in turns:
        drawn_turns += 1
        history = [part for pair in zip(observations, actions, strict=True) for part in pair]
        prompt = np.concatenate([*history, new.input_tokens])
        length = len(prompt) + (len(new.output_tokens) if rule.count_output else 0)
        if length > rule.max_tokens or len(requests) == rule.max_turns:
            break
        requests.append(TurnTokens(prompt, new.output_tokens, new.user_words))
        if rule.keep_observations is not None:
            _collapse(observations, rule.keep_observations)
        observations.append(new.input_tokens)
        actions.append(new.output_tokens)
    return SessionTokens(session_id, requests, drawn_turns)


def _collapse(observations: list[TokenArray], keep: int) -> None:
    """Drop the observation that will be too old once the newest, not yet in the list, is added."""
    if sum(len(observation) > 0 for observation in observations) > keep:
        observations[-keep] = EMPTY
