"""Llama-2's tokenizer, rebuilt from a vocabulary that a package index serves, and its use.

The paper tokenizes with ``meta-llama/Llama-2-7b-hf``, whose files need an accepted licence.
llama.cpp ships the same 32,000 pieces as a GGUF file. A BPE model needs the merges too: they are
all splits of a piece into two pieces, in the order of the ids. The result is the published
``tokenizer.json``, byte for byte.
"""

import hashlib
import json
import os
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from marconi_core.errors import DataError
from marconi_core.files import atomic_path

LLAMA2_SHA256 = "bcd04f0eadf90287bd26e1a183ac487d8a141b09b06aecb7725bbdd343640f2e"
SPACE = "\u2581"  # SentencePiece's visible space

_PRINTABLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
BYTE_CHARACTERS = {byte: chr(byte) for byte in _PRINTABLE} | {
    byte: chr(0x100 + i) for i, byte in enumerate(sorted({*range(256)} - {*_PRINTABLE}))
}
"""The character that stands for each byte in the vocabulary of a byte-level BPE."""

_FIRST, _SECOND = (
    [{"SpecialToken": {"id": "<s>", "type_id": i}}, {"Sequence": {"id": text, "type_id": i}}]
    for i, text in enumerate("AB")
)
BOS_FIRST = {
    "type": "TemplateProcessing",
    "single": _FIRST,
    "pair": [*_FIRST, *_SECOND],
    "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
}
"""Puts ``<s>`` before each text."""

Encoder = Callable[[Sequence[str]], list[NDArray[np.int32]]]
"""Turns texts into token ids, special tokens included: one int32 array per text."""


def load_encoder(path: str | os.PathLike[str]) -> Encoder:
    """Return the encoder of a ``tokenizer.json``.

    Raises:
        DataError: the file is missing or not a tokenizer.
    """
    tokenizer = load_tokenizer(path)

    def encode(texts: Sequence[str]) -> list[NDArray[np.int32]]:
        return [np.array(e.ids, np.int32) for e in tokenizer.encode_batch_fast(list(texts))]

    return encode


def load_tokenizer(path: str | os.PathLike[str]) -> Tokenizer:
    """Return the tokenizer of a ``tokenizer.json``, without truncation and padding that it may ask for.

    Raises:
        DataError: the file is missing or not a tokenizer.
    """
    if not Path(path).is_file():
        raise DataError(
            f"{path}: no such tokenizer.json; name one that is there (Llama-2's is built from the "
            "'llama2_vocab' data set)"
        )
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the binding raises bare Exception
        raise DataError(f"{path}: not a tokenizer.json ({error!s:.200}); build it again") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def build_llama2(vocabulary: str | os.PathLike[str], path: str | os.PathLike[str]) -> None:
    """Write Llama-2's ``tokenizer.json`` from llama.cpp's ``ggml-vocab-llama-spm.gguf``.

    Raises:
        DataError: the vocabulary is missing, damaged, or not Llama-2's. Nothing is written then.
    """
    content = llama2_json(read_gguf_pieces(vocabulary)).encode()
    if hashlib.sha256(content).hexdigest() != LLAMA2_SHA256:
        raise DataError(f"{vocabulary}: does not give Llama-2's tokenizer.json; fetch it again")
    with atomic_path(path) as partial:
        partial.write_bytes(content)


def llama2_json(pieces: Sequence[str]) -> str:
    """Return the content of ``tokenizer.json`` for SentencePiece pieces in order of their ids."""
    layout = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [special_token(i, piece) for i, piece in enumerate(pieces[:3])],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": SPACE},
                {"type": "Replace", "pattern": {"String": " "}, "content": SPACE},
            ],
        },
        "pre_tokenizer": None,
        "post_processor": BOS_FIRST,
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ],
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "<unk>",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "vocab": {piece: i for i, piece in enumerate(pieces)},
            "merges": _merges(pieces),
        },
    }
    return json.dumps(layout, ensure_ascii=False, indent=2)


def special_token(token_id: int, content: str) -> dict[str, Any]:
    """Return an entry of ``added_tokens``: a token that no text gives."""
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": token_id, "content": content, **flags, "special": True}


def _merges(pieces: Sequence[str]) -> list[str]:
    """Return all splits of a piece into two pieces, by merged, left and right id.

    Runs of spaces come last: SentencePiece gives them the lowest score.
    """
    ids = {piece: i for i, piece in enumerate(pieces)}
    merges = []
    for piece, merged in ids.items():
        only_spaces = piece.strip(SPACE) == ""
        for cut in range(1, len(piece)):
            left, right = ids.get(piece[:cut]), ids.get(piece[cut:])
            if left is not None and right is not None:
                merges.append((only_spaces, merged, left, right))
    return [f"{pieces[left]} {pieces[right]}" for _, _, left, right in sorted(merges)]


def read_gguf_pieces(path: str | os.PathLike[str]) -> list[str]:
    """Return the vocabulary of a GGUF file in the order of the ids.

    Raises:
        DataError: the file is missing, cut off, or has no vocabulary.
    """
    try:
        metadata = _GgufReader(Path(path).read_bytes()).metadata()
        pieces: list[str] = metadata["tokenizer.ggml.tokens"]
        if not isinstance(pieces, list) or not all(isinstance(piece, str) for piece in pieces):
            raise ValueError("no list of texts")
    except OSError as error:
        raise DataError(f"{path}: the vocabulary cannot be read ({error.strerror})") from error
    except (struct.error, KeyError, ValueError, TypeError, RecursionError) as error:
        raise DataError(f"{path}: not a GGUF vocabulary, or cut off; fetch it again") from error
    return pieces


# codes of the value types in GGUF; a number has a format character of `struct`
GGUF_NUMBERS = dict(zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd", strict=True))
GGUF_STRING, GGUF_ARRAY = 8, 9


class _GgufReader:
    """Reads the key-value section of a GGUF file (versions 2 and 3, little-endian).

    Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
    """

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._position = 0

    def metadata(self) -> dict[str, Any]:
        if self._bytes(4) != b"GGUF":
            raise ValueError("no GGUF header")
        self._number("I")  # version
        self._number("Q")  # number of tensors: none in a vocabulary file
        pairs = self._number("Q")
        return {self._string(): self._value(self._number("I")) for _ in range(pairs)}

    def _value(self, kind: int) -> Any:
        if kind == GGUF_STRING:
            return self._string()
        if kind == GGUF_ARRAY:
            element, length = self._number("I"), self._number("Q")
            return [self._value(element) for _ in range(length)]
        return self._number(GGUF_NUMBERS[kind])

    def _string(self) -> str:
        return self._bytes(self._number("Q")).decode()

    def _number(self, code: str) -> Any:
        return struct.unpack(f"<{code}", self._bytes(struct.calcsize(f"<{code}")))[0]

    def _bytes(self, count: int) -> bytes:
        start, self._position = self._position, self._position + count
        if self._position > len(self._content):
            raise ValueError("cut off")
        return self._content[start : self._position]
