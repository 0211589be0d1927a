"""The log of a workflow rule: heartbeat lines, and on failure one clear last line."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from marconi_core.errors import MarconiError, StorageError
from marconi_core.files import NO_ROOM, NOT_WRITABLE, storage_errors


@contextmanager
def rule_log(path: str | os.PathLike[str]) -> Iterator[None]:
    """Send the package's log lines to a file while a rule's script runs.

    On failure the traceback goes to the file too, with the message as its last line. A
    `MarconiError` ends the script with that message alone on stderr.
    """
    try:
        with storage_errors(Path(path), NO_ROOM | NOT_WRITABLE):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            handler = _LogFile(path, mode="w", encoding="utf-8")
    except StorageError as error:
        sys.exit(_message(error))
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("marconi_core")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    except Exception as error:
        logger.exception("traceback, for reports:")
        logger.error(_message(error))
        if isinstance(error, MarconiError):
            sys.exit(_message(error))
        raise
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        handler.close()


class _LogFile(logging.FileHandler):
    """A log that does not bury the one message under its own troubles when the disk is full."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        pass

    def close(self) -> None:
        with suppress(OSError):
            super().close()


def _message(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
