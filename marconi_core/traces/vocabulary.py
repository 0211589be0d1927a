"""What the ids of a ``tokenizer.json`` stand for: bytes, exactly, or a special token.

Decoders give text, in which half a character has no place. A trace is cut between any two tokens, so
that a piece of it may begin or end within a character; as bytes it is still what it is.
"""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from marconi_core.errors import DataError
from marconi_core.traces.tokenizers import BYTE_CHARACTERS, SPACE, load_tokenizer

BYTES_OF = {character: byte for byte, character in BYTE_CHARACTERS.items()}
FALLBACK = re.compile(r"<0x([0-9A-F]{2})>")
STRAY = re.compile("([\udc80-\udcff])")  # how "surrogateescape" writes bytes that are no text
MAX_IDS = 1 << 24  # of a vocabulary; the largest have less than a million
BATCH_BYTES = 1 << 22  # encodings take far more memory than texts

Part = bytes | str
"""Of a decoded sequence: bytes, or the name of a special token."""


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer of the byte-level kind (Tekken, Nemotron-H) or with byte fallback (Llama-2).

    Attributes:
        path: where it came from, for messages.
        pieces: the bytes of each id; None for special tokens and unused ids.
        special: id by name of the special tokens.
        byte_level: bytes are merged as they are; else characters are, and the rest falls back.
    """

    path: str
    tokenizer: Tokenizer
    pieces: tuple[bytes | None, ...]
    special: dict[str, int]
    byte_level: bool

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Vocabulary":
        """Read a ``tokenizer.json``.

        Raises:
            DataError: the file is missing, no tokenizer, or of neither kind.
        """
        tokenizer = load_tokenizer(path)
        tokenizer.encode_special_tokens = True  # a text that spells "<s>" is text
        written = tokenizer.get_vocab(with_added_tokens=True)
        special = {token.content: i for i, token in tokenizer.get_added_tokens_decoder().items()}
        ordinary = {piece: i for piece, i in written.items() if piece not in special}
        byte_level = all(character in ordinary for character in BYTES_OF)
        fallback = all(f"<0x{byte:02X}>" in ordinary for byte in range(256))
        if not (byte_level or fallback):
            raise DataError(
                f"{path}: neither a byte-level tokenizer nor one with byte fallback; name a "
                "tokenizer.json such as Llama-2's, Tekken or Nemotron-H's"
            )
        if (highest := max(written.values())) >= MAX_IDS:
            raise DataError(f"{path}: has a token {highest}; ids go up to {MAX_IDS - 1}")
        pieces: list[bytes | None] = [None] * (1 + highest)
        for piece, i in ordinary.items():
            pieces[i] = _byte_level(piece) if byte_level else _with_fallback(piece)
        return cls(str(path), tokenizer, tuple(pieces), special, byte_level)

    @cached_property
    def ids(self) -> dict[bytes, int]:
        """Id by bytes, the lowest where several ids have the same bytes."""
        numbered = enumerate(self.pieces)
        return {piece: i for i, piece in reversed([*numbered]) if piece}

    @cached_property
    def longest(self) -> int:
        """Bytes of the longest piece."""
        return max(map(len, self.ids))

    @cached_property
    def _names(self) -> dict[int, str]:
        return {i: name for name, i in self.special.items()}

    def parts(self, tokens: NDArray[np.int32], previous: int | None = None) -> list[Part]:
        """Decode a sequence.

        Llama-2 puts a space in front of every text; where that follows ``<s>`` or stands at the very
        start it is taken off again, unless nothing else is left.

        Args:
            tokens: ids of this vocabulary.
            previous: the id before them, None at the start.

        Raises:
            DataError: an id that the vocabulary does not have.
        """
        parts: list[Part] = []
        run: list[bytes] = []
        after_bos = previous is None or previous in self._names
        for token in tokens.tolist():
            piece = self.pieces[token] if token < len(self.pieces) else None
            if piece is not None:
                run.append(piece)
                continue
            if token not in self._names:
                raise DataError(f"{self.path}: has no token {token}; is the trace another model's?")
            parts += self._joined(run, after_bos)
            parts.append(self._names[token])
            run, after_bos = [], True
        return parts + self._joined(run, after_bos)

    def _joined(self, run: list[bytes], after_bos: bool) -> list[Part]:
        content = b"".join(run)
        if after_bos and not self.byte_level and len(content) > 1:
            content = content.removeprefix(b" ")
        return [content] if content else []

    def encode(self, sequences: Iterable[Sequence[Part]]) -> Iterator[list[int]]:
        """Yield the ids of decoded sequences, each encoded by itself, nothing added.

        Text is encoded as the tokenizer does; a byte that is part of no character becomes the byte's
        own token; a special token the one of that name, or its name's spelling where there is none.

        Raises:
            DataError: the tokenizer is not byte-level: it would add spaces to texts.
        """
        if not self.byte_level:
            raise DataError(f"{self.path}: not byte-level; traces cannot be encoded with it")
        batch: list[list[str | int]] = []
        size = 0
        for sequence in sequences:
            batch.append(self._pieces_of(sequence))
            size += sum(map(len, sequence))
            if size > BATCH_BYTES:
                yield from self._encode(batch)
                batch, size = [], 0
        yield from self._encode(batch)

    def _encode(self, batch: Sequence[Sequence[str | int]]) -> Iterator[list[int]]:
        texts = [piece for pieces in batch for piece in pieces if isinstance(piece, str)]
        encoded = iter(self.tokenizer.encode_batch_fast(texts, add_special_tokens=False))
        for pieces in batch:
            ids: list[int] = []
            for piece in pieces:
                ids += [piece] if isinstance(piece, int) else next(encoded).ids
            yield ids

    def _pieces_of(self, sequence: Sequence[Part]) -> list[str | int]:
        """Return a sequence as texts to encode, and ids where they are certain."""
        pieces: list[str | int] = []
        for part in sequence:
            if isinstance(part, str):
                pieces.append(self.special.get(part, part))
                continue
            for text in STRAY.split(as_text(part)):
                if STRAY.match(text):
                    pieces.append(self.ids[text.encode(errors="surrogateescape")])
                elif text:
                    pieces.append(text)
        return pieces


def as_text(content: bytes) -> str:
    """Return UTF-8 as text; bytes that belong to no whole character come as lone surrogates."""
    return content.decode(errors="surrogateescape")


def _byte_level(piece: str) -> bytes | None:
    try:
        return bytes(BYTES_OF[character] for character in piece)
    except KeyError:  # a token beside the byte-level ones
        return None


def _with_fallback(piece: str) -> bytes:
    if match := FALLBACK.fullmatch(piece):
        return bytes([int(match[1], 16)])
    return piece.replace(SPACE, " ").encode()
