"""Heartbeat lines in the log of a long step."""

import logging
import time


class Heartbeat:
    """Logs how far a loop has come, at most once every few seconds.

    Args:
        logger: where the lines go (level INFO).
        message: %-format with the arguments that `beat` is called with.
        interval_s: seconds between two lines.
    """

    def __init__(self, logger: logging.Logger, message: str, interval_s: float = 3.0) -> None:
        self._logger = logger
        self._message = message
        self._interval_s = interval_s
        self._last = time.monotonic()

    def beat(self, *arguments: object) -> None:
        """Log a line if the last one is `interval_s` ago."""
        now = time.monotonic()
        if now - self._last >= self._interval_s:
            self._last = now
            self._logger.info(self._message, *arguments)
