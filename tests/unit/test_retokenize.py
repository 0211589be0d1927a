"""Re-encoded traces on tiny vocabularies: the structure stays, token by token the text too."""

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marconi_core.cli import main
from marconi_core.errors import DataError
from marconi_core.replay.texts import alignments
from marconi_core.traces.retokenize import retokenize
from marconi_core.traces.tekken import build_tekken, tekken_json
from marconi_core.traces.tokenizers import SPACE, llama2_json
from marconi_core.traces.trace import Request, SessionTokens, Trace, TurnTokens, Workload
from marconi_core.traces.vocabulary import Vocabulary

BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
OLD = ["<unk>", "<s>", "</s>", *BYTES, SPACE, *"abn", "ab", SPACE + "a", SPACE + "ab", "\u00e9"]
NEW = [bytes([byte]) for byte in range(256)] + [b"ab", b"aba", b"abab", b" a", "\u00e9".encode()]
ID = {piece: i for i, piece in enumerate(OLD)}
PATTERN = r" ?\p{L}+|\s+|[^\s\p{L}]+"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vocabularies")
    (folder / "old.json").write_text(llama2_json(OLD), encoding="utf-8")
    (folder / "new.json").write_text(tekken_json(NEW, PATTERN, specials=20), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def old(folder: Path) -> Vocabulary:
    return Vocabulary.load(folder / "old.json")


@pytest.fixture(scope="module")
def new(folder: Path) -> Vocabulary:
    return Vocabulary.load(folder / "new.json")


def trace_of(*requests: tuple[list[int], list[int]]) -> Trace:
    return Trace.build(
        Request(session, 0, float(session), prompt, output)
        for session, (prompt, output) in enumerate(requests)
    )


def common(a: np.ndarray, b: np.ndarray) -> int:
    """Length of the longest common prefix."""
    length = min(len(a), len(b))
    differing = np.flatnonzero(a[:length] != b[:length])
    return int(differing[0]) if len(differing) else length


def sequences(trace: Trace) -> list[np.ndarray]:
    return [trace.tree.sequence(node) for node in trace.out_node]


def spelled(trace: Trace, vocabulary: Vocabulary) -> list[bytes]:
    """The text of each request, special tokens as their names."""
    return [
        b"".join(
            part if isinstance(part, bytes) else part.encode() for part in vocabulary.parts(tokens)
        )
        for tokens in sequences(trace)
    ]


def assert_same_structure(before: Trace, after: Trace) -> None:
    """Any two requests share a prefix up to the same node, turn or branch, as before."""
    assert len(after.tree) == len(before.tree)
    to_new: dict[int, int] = {0: 0}  # node before -> node after
    for nodes_before, nodes_after in (
        (before.in_node, after.in_node),
        (before.out_node, after.out_node),
    ):
        for a, b in zip(nodes_before, nodes_after, strict=True):
            path_before, path_after = before.tree.path(a), after.tree.path(b)
            assert len(path_before) == len(path_after)
            for x, y in zip(path_before.tolist(), path_after.tolist(), strict=True):
                assert to_new.setdefault(x, y) == y
    assert len(set(to_new.values())) == len(before.tree)  # every node is on some path
    old_sequences, new_sequences = sequences(before), sequences(after)
    for i, j in combinations(range(len(before)), 2):
        shared = common(old_sequences[i], old_sequences[j])
        path = before.tree.path(before.out_node[i])
        node = int(path[np.searchsorted(before.tree.depth[path], shared)])
        assert before.tree.depth[node] == shared
        assert common(new_sequences[i], new_sequences[j]) == after.tree.depth[to_new[node]]


token = st.integers(0, len(OLD) - 1)
some = st.lists(token, min_size=1, max_size=6)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_structure_survives_on_random_tokens(old: Vocabulary, new: Vocabulary, data) -> None:
    """Few roots and arbitrary ids: cuts within characters, shared spellings, special tokens."""
    roots = data.draw(st.lists(some, min_size=1, max_size=3))
    requests = data.draw(
        st.lists(st.tuples(st.sampled_from(roots), some, some), min_size=1, max_size=8)
    )
    before = trace_of(*((root + prompt, output) for root, prompt, output in requests))
    after, found = retokenize(before, old, new)
    assert_same_structure(before, after)
    if not found.replaced:
        # but for the space in front, which goes where more follows it
        assert [text.replace(b" ", b"") for text in spelled(after, new)] == [
            text.replace(b" ", b"") for text in spelled(before, old)
        ]


def test_a_multi_turn_workload_keeps_its_order_and_labels(old: Vocabulary, new: Vocabulary) -> None:
    first, reply, second = [1, ID[SPACE + "ab"]], [1, ID["ab"]], [1, ID["n"]]
    turns = [TurnTokens(first, reply, 3), TurnTokens(first + reply + second, [ID["a"]], 4)]
    before = Workload.build([SessionTokens("chat", turns, 2)])
    after, found = retokenize(before, old, new)
    assert after.session_ids == ("chat",)
    assert after.user_words.tolist() == [3, 4]
    assert after.input_tokens(0).tolist() == [1, new.ids[b"ab"]]
    assert after.input_tokens(1).tolist()[: 2 + 2] == [1, new.ids[b"ab"], 1, new.ids[b"ab"]]
    assert (found.respelled, found.replaced, found.split_characters) == (0, 0, 0)


def test_a_cut_within_a_character_is_counted_and_kept(old: Vocabulary, new: Vocabulary) -> None:
    upper, lower, other = ID["<0xC3>"], ID["<0xA9>"], ID["<0xA8>"]
    before = trace_of(([ID["a"], upper, lower], [ID["b"]]), ([ID["a"], upper, other], [ID["b"]]))
    after, found = retokenize(before, old, new)
    assert found.split_characters == 3  # what is shared, and both that go on
    assert spelled(after, new) == ["a\u00e9b".encode(), "a\u00e8b".encode()]
    assert_same_structure(before, after)
    whole, _ = retokenize(trace_of(([ID["a"], upper, lower], [ID["b"]])), old, new)
    assert new.ids["\u00e9".encode()] in whole.input_tokens(0)


def test_edges_with_the_same_first_token_are_respelled(old: Vocabulary, new: Vocabulary) -> None:
    """``ab`` and ``a`` + ``b`` part in the old vocabulary and spell the same in the new one."""
    before = trace_of(
        ([ID["n"], ID["ab"], ID["ab"]], [ID["n"]]),
        ([ID["n"], ID["a"], ID["b"], ID["ab"]], [ID["n"]]),
    )
    after, found = retokenize(before, old, new)
    assert (found.respelled, found.replaced) == (1, 0)
    assert spelled(after, new) == [b"nababn", b"nababn"]
    assert common(*sequences(after)) == 1


def test_where_no_spelling_is_left_a_token_is_replaced(old: Vocabulary, new: Vocabulary) -> None:
    before = trace_of(([ID["n"], ID["b"]], [ID["n"]]), ([ID["n"], ID["<0x62>"]], [ID["n"]]))
    after, found = retokenize(before, old, new)
    assert (found.respelled, found.replaced) == (1, 1)
    assert_same_structure(before, after)


def test_the_choice_goes_to_the_edge_that_has_one(old: Vocabulary, new: Vocabulary) -> None:
    """``a`` alone cannot be spelled otherwise, ``ab`` beside it can."""
    before = trace_of(
        ([ID["n"], ID["<0x61>"], ID["n"]], [ID["b"]]), ([ID["n"], ID["a"]], [ID["b"]])
    )
    _, found = retokenize(before, old, new)
    assert found.replaced == found.respelled == 1
    before = trace_of(
        ([ID["n"], ID["ab"]], [ID["n"]]), ([ID["n"], ID["a"], ID["b"], ID["n"]], [ID["n"]])
    )
    _, found = retokenize(before, old, new)
    assert (found.respelled, found.replaced) == (1, 0)


def test_command_line(
    folder: Path, new: Vocabulary, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given, made = tmp_path / "trace.npz", tmp_path / "new.npz"
    trace_of(([1, ID["ab"]], [ID["n"]])).save(given)
    words = ["retokenize", str(given), "--source", str(folder / "old.json")]
    words += ["--target", str(folder / "new.json"), "-o"]
    assert main([*words, str(made)]) == 0
    assert "input tokens          2 -> 2 (1.000)" in capsys.readouterr().out
    assert Trace.load(made).input_tokens(0).tolist() == [1, new.ids[b"ab"]]
    assert main([*words, "new.jsonl"]) == 2
    assert "new.jsonl: compiled traces end in .npz" in capsys.readouterr().err


def test_text_that_spells_a_special_token_is_text(new: Vocabulary) -> None:
    [ids] = new.encode([["<s>", b"<s>"]])
    assert ids == [1, new.ids[b"<"], new.ids[b"s"], new.ids[b">"]]
    [unknown] = new.encode([["<none>"]])
    assert len(unknown) == len("<none>")


def test_another_models_ids_and_unfit_vocabularies(
    old: Vocabulary, new: Vocabulary, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"has no token 999; is the trace another model's\?"):
        retokenize(trace_of(([999], [1])), old, new)
    with pytest.raises(DataError, match="not byte-level; traces cannot be encoded with it"):
        retokenize(trace_of(([ID["a"]], [1])), old, old)
    path = tmp_path / "tokenizer.json"
    path.write_text(llama2_json(["<unk>", "<s>", "</s>", "a"]), encoding="utf-8")
    with pytest.raises(DataError, match=r"tokenizer\.json: neither a byte-level tokenizer nor"):
        Vocabulary.load(path)


def test_texts_lose_prefixes_where_tokens_grow_over_message_ends(
    old: Vocabulary, new: Vocabulary
) -> None:
    """``ab`` behind ``ab`` becomes one token: encoded as one text, nothing is where it was."""
    ab, opening = ID["ab"], ID[SPACE + "ab"]
    first, reply, second = [1, opening], [1, opening, ab, ab], [1, opening]
    before = Trace.build(
        [
            Request("chat", 0, 0.0, first, reply),
            Request("chat", 1, 1.0, first + reply + second, [1, ID["n"]]),
        ]
    )
    after, _ = retokenize(before, old, new)
    ids, completions, chat = alignments(before, after, old, new)
    assert (ids.interface, ids.longer, ids.extra_tokens) == ("token ids", 0, 0)
    assert (chat.longer, chat.extra_tokens, chat.known) == (0, 0, ids.known)
    assert ids.known > 0.5 and ids.stock_hits > 0
    assert (completions.longer, completions.known, completions.stock_hits) == (1, 0, 0)


def test_tekken_is_refused_if_it_is_not_mistrals(tmp_path: Path) -> None:
    path = tmp_path / "tekken_240911.json"
    with pytest.raises(DataError, match="cannot be read"):
        build_tekken(path, tmp_path / "tokenizer.json")
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(DataError, match="not Tekken's vocabulary"):
        build_tekken(path, tmp_path / "tokenizer.json")
    vocab = [{"token_bytes": "QQ=="}]
    path.write_text(json.dumps({"vocab": vocab, "config": {"pattern": PATTERN}}), encoding="utf-8")
    with pytest.raises(DataError, match="does not give Tekken's"):
        build_tekken(path, tmp_path / "tokenizer.json")
    assert not (tmp_path / "tokenizer.json").exists()
