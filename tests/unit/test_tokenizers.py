"""The rebuilt tokenizer on a tiny vocabulary; tests/golden has the real one."""

import json
import struct

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from marconi_core.errors import DataError
from marconi_core.traces.tokenizers import (
    SPACE,
    build_llama2,
    llama2_json,
    load_encoder,
    read_gguf_pieces,
)

SPECIAL = ["<unk>", "<s>", "</s>"]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
LETTERS = [SPACE, "a", "b", SPACE + SPACE, "ab", SPACE + "a", SPACE + "ab"]
PIECES = [*SPECIAL, *BYTES, *LETTERS]


def gguf(pieces: list[str]) -> bytes:
    """A GGUF file with a number, a string, an array of numbers, and the vocabulary."""

    def string(text: str) -> bytes:
        return struct.pack("<Q", len(text.encode())) + text.encode()

    def pair(key: str, kind: int, value: bytes) -> bytes:
        return string(key) + struct.pack("<I", kind) + value

    pairs = [
        pair("general.architecture", 8, string("llama")),
        pair("llama.block_count", 4, struct.pack("<I", 32)),
        pair("tokenizer.ggml.scores", 9, struct.pack("<IQ2f", 6, 2, -1.0, 0.0)),
        pair(
            "tokenizer.ggml.tokens",
            9,
            struct.pack("<IQ", 8, len(pieces)) + b"".join(map(string, pieces)),
        ),
    ]
    return b"GGUF" + struct.pack("<IQQ", 3, 0, len(pairs)) + b"".join(pairs)


def test_reads_the_pieces_of_a_gguf_file(tmp_path):
    path = tmp_path / "vocabulary.gguf"
    path.write_bytes(gguf(PIECES))
    assert read_gguf_pieces(path) == PIECES


@pytest.mark.parametrize("damage", [lambda b: b[:-3], lambda b: b"GGML" + b[4:], lambda b: b""])
def test_damaged_vocabulary(tmp_path, damage):
    path = tmp_path / "vocabulary.gguf"
    path.write_bytes(damage(gguf(PIECES)))
    with pytest.raises(DataError, match=r"vocabulary\.gguf: not a GGUF vocabulary, or cut off"):
        read_gguf_pieces(path)


def test_missing_vocabulary(tmp_path):
    with pytest.raises(DataError, match="No such file"):
        read_gguf_pieces(tmp_path / "absent.gguf")


def test_another_vocabulary_is_refused_and_nothing_written(tmp_path):
    path = tmp_path / "vocabulary.gguf"
    path.write_bytes(gguf(PIECES))
    with pytest.raises(DataError, match="does not give Llama-2's"):
        build_llama2(path, tmp_path / "tokenizer.json")
    assert not (tmp_path / "tokenizer.json").exists()


def test_merges_are_ordered_with_runs_of_spaces_last():
    ids = {piece: i for i, piece in enumerate(PIECES)}
    merges = json.loads(llama2_json(PIECES))["model"]["merges"]
    assert merges == [
        "a b",
        f"{SPACE} a",
        f"{SPACE} ab",
        f"{SPACE}a b",
        f"{SPACE} {SPACE}",
    ]
    assert ids[SPACE] < ids["ab"]


def test_encodes_with_bos_and_falls_back_to_bytes(tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text(llama2_json(PIECES), encoding="utf-8")
    encode = load_encoder(path)
    ids = {piece: i for i, piece in enumerate(PIECES)}
    empty, word, other = (array.tolist() for array in encode(["", "ab", "\u00e9"]))
    assert empty == [1]
    assert word == [1, ids[SPACE + "ab"]]
    assert other == [1, ids[SPACE], ids["<0xC3>"], ids["<0xA9>"]]


def test_encoder_needs_a_tokenizer_file(tmp_path):
    with pytest.raises(DataError, match="no such tokenizer"):
        load_encoder(tmp_path / "absent.json")
    path = tmp_path / "tokenizer.json"
    path.write_text("<html>")
    with pytest.raises(DataError, match=r"not a tokenizer\.json"):
        load_encoder(path)


def test_truncation_and_padding_of_a_tokenizer_are_ignored(tmp_path):
    """Published files have them; texts would be cut, or filled up."""
    tokenizer = Tokenizer(models.WordLevel({"a": 0, "b": 1, "[PAD]": 2}, unk_token="b"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding(pad_id=2, length=5)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    encode = load_encoder(tmp_path / "tokenizer.json")
    assert [ids.tolist() for ids in encode(["a b a b a b a", "a"])] == [[0, 1, 0, 1, 0, 1, 0], [0]]
