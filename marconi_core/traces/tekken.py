"""Tekken, Mistral's tokenizer of 131,072 ids, as a ``tokenizer.json``.

It stands in for Nemotron-H's tokenizer, of the same family and size, which nothing but the model's own
repository serves. Mistral ships the vocabulary as byte strings in order of their ranks; a BPE model
needs the merges too: the last two parts of each string when it is merged from bytes, lowest rank first.
"""

import base64
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from marconi_core.errors import DataError
from marconi_core.files import atomic_path
from marconi_core.traces.tokenizers import BOS_FIRST, BYTE_CHARACTERS, special_token

TEKKEN_SHA256 = "3bb9912df8cc8cb188864ac55a01425616c416be6caed24f39f0da425fddac00"
VOCABULARY_SIZE, SPECIAL_TOKENS = 131_072, 1_000
NAMED = (
    "<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]",
    "[TOOL_RESULTS]", "[/TOOL_RESULTS]", "[TOOL_CALLS]",
)  # fmt: skip


def build_tekken(vocabulary: str | os.PathLike[str], path: str | os.PathLike[str]) -> None:
    """Write Tekken's ``tokenizer.json`` from mistral-common's ``tekken_240911.json``.

    Raises:
        DataError: the vocabulary is missing, damaged, or another one. Nothing is written then.
    """
    try:
        source = json.loads(Path(vocabulary).read_text(encoding="utf-8"))
        entries = source["vocab"][: VOCABULARY_SIZE - SPECIAL_TOKENS]
        pieces = [base64.b64decode(entry["token_bytes"]) for entry in entries]
        content = tekken_json(pieces, source["config"]["pattern"]).encode()
    except OSError as error:
        raise DataError(
            f"{vocabulary}: the vocabulary cannot be read ({error.strerror})"
        ) from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(
            f"{vocabulary}: not Tekken's vocabulary ({error!r:.200}); fetch it again"
        ) from error
    if hashlib.sha256(content).hexdigest() != TEKKEN_SHA256:
        raise DataError(f"{vocabulary}: does not give Tekken's tokenizer.json; fetch it again")
    with atomic_path(path) as partial:
        partial.write_bytes(content)


def tekken_json(pieces: Sequence[bytes], pattern: str, specials: int = SPECIAL_TOKENS) -> str:
    """Return the content of ``tokenizer.json``.

    Args:
        pieces: the byte strings of the ordinary tokens, in order of their ranks.
        pattern: of the texts within which bytes are merged.
        specials: tokens before the ordinary ones.
    """
    names = [*NAMED, *(f"<SPECIAL_{i}>" for i in range(len(NAMED), specials))]
    written = [_written(piece) for piece in pieces]
    layout = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [special_token(i, name) for i, name in enumerate(names)],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {
                    "type": "Split",
                    "pattern": {"Regex": pattern},
                    "behavior": "Isolated",
                    "invert": False,
                },
                {
                    "type": "ByteLevel",
                    "add_prefix_space": False,
                    "trim_offsets": True,
                    "use_regex": False,
                },
            ],
        },
        "post_processor": BOS_FIRST,
        "decoder": {
            "type": "ByteLevel",
            "add_prefix_space": True,
            "trim_offsets": True,
            "use_regex": True,
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": True,
            "vocab": {piece: i for i, piece in enumerate([*names, *written])},
            "merges": [
                f"{_written(left)} {_written(right)}" for left, right in _last_merges(pieces)
            ],
        },
    }
    return json.dumps(layout, ensure_ascii=False)


def _written(piece: bytes) -> str:
    return "".join(BYTE_CHARACTERS[byte] for byte in piece)


def _last_merges(pieces: Sequence[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Yield the two parts that each piece of two bytes or more is last merged from."""
    ranks = {piece: rank for rank, piece in enumerate(pieces)}
    for piece in pieces:
        if len(piece) > 1:
            left, right = _merge_down(piece, ranks)
            yield left, right


def _merge_down(piece: bytes, ranks: Mapping[bytes, int]) -> list[bytes]:
    """Merge the bytes of a piece, lowest rank first, until two parts are left."""
    parts = [piece[i : i + 1] for i in range(len(piece))]
    while len(parts) > 2:
        candidates = (
            (ranks.get(parts[i] + parts[i + 1], len(ranks)), i) for i in range(len(parts) - 1)
        )
        _, i = min(candidates)
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    return parts
