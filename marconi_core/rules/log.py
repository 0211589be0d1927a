"""The log of a workflow rule: heartbeat lines, and on failure one clear last line."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from marconi_core.errors import MarconiError


@contextmanager
def rule_log(path: str | os.PathLike[str]) -> Iterator[None]:
    """Send the package's log lines to a file while a rule's script runs.

    On failure the traceback goes to the file too, with the message as its last line. A
    `MarconiError` ends the script with that message alone on stderr.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, mode="w", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("marconi_core")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    except Exception as error:
        logger.exception("traceback, for reports:")
        logger.error("%s: %s", type(error).__name__, error)
        if isinstance(error, MarconiError):
            sys.exit(f"{type(error).__name__}: {error}")
        raise
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        handler.close()
