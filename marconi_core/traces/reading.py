"""Text of files that nobody vouches for: streamed, and never more at once than memory bears."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

LIMIT_BYTES = 1 << 26
"""Of one line or document. A request of seven million tokens fits; a file without line ends does not."""


class TooLongError(ValueError):
    """More without a line end, or in one document, than the limit."""


def read_lines(file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield (number from 1, line).

    Raises:
        TooLongError: a line is longer than the limit; no more of it is read.
    """
    number = 0
    while line := file.readline(LIMIT_BYTES + 1):
        number += 1
        yield number, _within_limit(line, LIMIT_BYTES, "the line")


def read_document(path: str | os.PathLike[str], limit: int = LIMIT_BYTES) -> str:
    """Return the text of a file of at most `limit` bytes.

    Raises:
        ValueError: the file is longer than the limit (TooLongError), or not UTF-8.
        OSError: it cannot be read.
    """
    with Path(path).open("rb") as file:
        return _within_limit(file.read(limit + 1), limit, "the file").decode()


def _within_limit(content: bytes, limit: int, what: str) -> bytes:
    if len(content) > limit:
        raise TooLongError(f"{what} is longer than {limit >> 20} MiB")
    return content
