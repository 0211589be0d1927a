"""History, limits and dropped observations, on turns whose tokens tell where they come from."""

from collections.abc import Sequence

import numpy as np
import pytest

from marconi_core.traces.sessions import HistoryRule, NewTokens, paired_turns, tokenize, unroll


def bytes_encoder(texts: Sequence[str]) -> list[np.ndarray]:
    """One token a byte, BOS (1) in front."""
    return [np.array([1, *text.encode()], np.int32) for text in texts]


def turns(count: int, input_length: int = 2, output_length: int = 1) -> list[NewTokens]:
    """Turn t has inputs 100 + t and outputs 200 + t."""
    return [
        NewTokens(
            np.full(input_length, 100 + t, np.int32),
            np.full(output_length, 200 + t, np.int32),
            user_words=t,
        )
        for t in range(count)
    ]


def markers(tokens: Sequence[int]) -> list[int]:
    """Collapse runs of equal tokens."""
    return [int(token) for i, token in enumerate(tokens) if i == 0 or token != tokens[i - 1]]


def test_history_goes_in_front():
    session = unroll("s", turns(3), HistoryRule())
    assert session.session_id == "s"
    assert [markers(turn.input_tokens) for turn in session.turns] == [
        [100],
        [100, 200, 101],
        [100, 200, 101, 201, 102],
    ]
    assert [turn.user_words for turn in session.turns] == [0, 1, 2]
    assert session.drawn_turns == 3


@pytest.mark.parametrize(
    ("rule", "kept"),
    [
        (HistoryRule(max_tokens=8), 3),  # prompts of 2, 5, 8, 11 tokens
        (HistoryRule(max_tokens=8, count_output=True), 2),
        (HistoryRule(max_turns=2), 2),
        (HistoryRule(max_tokens=1), 0),
    ],
)
def test_a_limit_ends_the_session_after_its_think_time_is_drawn(rule, kept):
    session = unroll(0, turns(5), rule)
    assert len(session.turns) == kept
    assert session.drawn_turns == kept + 1


def test_agents_keep_the_task_and_the_latest_observations():
    session = unroll(0, turns(9), HistoryRule(keep_observations=2))
    whole = [[m for m in markers(turn.input_tokens) if m < 200] for turn in session.turns]
    assert whole == [
        [100],
        [100, 101],
        [100, 101, 102],
        [100, 101, 102, 103],
        [100, 102, 103, 104],
        [100, 103, 104, 105],
        [100, 104, 105, 106],
        [100, 105, 106, 107],
        [100, 106, 107, 108],
    ]
    last = [m for m in markers(session.turns[-1].input_tokens) if m >= 200]
    assert last == list(range(200, 208))  # actions stay


def test_the_paper_keeps_five_observations_from_the_eighth_turn_on():
    session = unroll(0, turns(9), HistoryRule(keep_observations=5))
    whole = [[m - 100 for m in markers(t.input_tokens) if m < 200] for t in session.turns]
    assert whole[6] == [0, 1, 2, 3, 4, 5, 6]
    assert whole[7] == [0, 2, 3, 4, 5, 6, 7]
    assert whole[8] == [0, 3, 4, 5, 6, 7, 8]


def test_each_message_is_tokenized_as_json_with_bos():
    messages = [
        {"from": "human", "value": "caf\u00e9 au lait"},
        {"from": "gpt", "value": "ok"},
        {"from": "human", "value": "no reply to this"},
    ]
    (session,) = tokenize([paired_turns(messages, [2, 3])], bytes_encoder, HistoryRule())
    (turn,) = session.turns
    assert bytes(turn.input_tokens[1:].tolist()) == (
        b'{"from": "human", "value": "caf\\u00e9 au lait"}'
    )
    assert bytes(turn.output_tokens[1:].tolist()) == b'{"from": "gpt", "value": "ok"}'
    assert turn.input_tokens[0] == turn.output_tokens[0] == 1
    assert turn.user_words == 2


def test_sessions_are_numbered_even_if_one_is_empty():
    short = paired_turns([{"a": 1}, {"b": 2}], [0])
    sessions = list(tokenize([short, [], short], bytes_encoder, HistoryRule()))
    assert [(s.session_id, len(s.turns), s.drawn_turns) for s in sessions] == [
        (0, 1, 1),
        (1, 0, 0),
        (2, 1, 1),
    ]
