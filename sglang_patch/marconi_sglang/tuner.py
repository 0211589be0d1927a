"""The server's end of online tuning: sends finished requests to a process, takes new alphas from it.

The scheduler never waits. Requests go through a bounded queue and a thread; answers come through
another. If the process dies or cannot keep up, serving goes on with the alpha that is set, and the
log and /server_info say so.
"""

import contextlib
import json
import logging
import queue
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from marconi_core.sim.server.tuning import Following
from marconi_core.sim.server.worker import Shadow, write_frame

logger = logging.getLogger(__name__)

MOST_WAITING = 4_096
"""Requests that may wait to be sent; a process that is further behind is given up."""

MOST_REMEMBERED = 500
"""Tunings that are kept to be shown."""

WORKER = (sys.executable, "-m", "marconi_core.sim.server.worker")


class TunerProcess:
    """A process that follows the server; it starts with the first request.

    Attributes:
        status: `idle`, `running`, or `stopped: ` and why.
        history: the latest tunings that were taken, in order: `request`, `alpha`, `scores`.
        shadow: how the process's simulator compares with the server, see `Shadow`.
    """

    def __init__(self, following: Following, command: Sequence[str] = WORKER) -> None:
        self.status = "idle"
        self.history: list[dict[str, Any]] = []
        self.shadow = asdict(Shadow())
        self._following = following
        self._command = list(command)
        self._outbox: queue.Queue[Any] = queue.Queue(MOST_WAITING)
        self._answers: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._process: subprocess.Popen[bytes] | None = None
        self._flushes = 0

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    @property
    def stopped(self) -> bool:
        """Whether alpha is tuned no longer."""
        return self.status.startswith("stopped")

    def observe(
        self,
        prompt: Sequence[int],
        output: Sequence[int],
        hit: int | None = None,
        alpha: float | None = None,
    ) -> None:
        """Report a finished request, with its hit and the alpha at that time."""
        if self.status == "idle":
            self._start()
        self._send((np.array(prompt, np.int64), np.array(output, np.int64), hit, alpha))

    def flushed(self) -> None:
        """Report that the cache was emptied; answers that are still about the old one are dropped."""
        if self._process is not None:
            self._flushes += 1
            self._send(None)

    def poll(self) -> float | None:
        """Return the newest alpha since the last call; None if there is no new one."""
        alpha = None
        while not self._answers.empty():
            answer = self._answers.get()
            if answer["flushes"] < self._flushes:
                continue
            self.history = [*self.history[1 - MOST_REMEMBERED :], answer]
            alpha = float(answer["alpha"])
        return alpha

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._stop("the server ended it")
            self._process.wait()

    def _start(self) -> None:
        try:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is for the server; it ends with its input
            )
        except OSError as error:
            self._stop(f"it did not start ({error})")
            return
        self.status = "running"
        self._outbox.put(self._following)
        for work in (self._write, self._read):
            threading.Thread(target=work, name="marconi-tuner", daemon=True).start()

    def _send(self, content: Any) -> None:
        if self.status != "running":
            return
        try:
            self._outbox.put_nowait(content)
        except queue.Full:
            self._stop(f"it fell {MOST_WAITING} requests behind")

    def _write(self) -> None:
        assert self._process is not None and self._process.stdin is not None
        try:
            while self.status == "running":
                write_frame(self._process.stdin, self._outbox.get())
        except OSError:
            pass  # the reader sees the end and says so

    def _read(self) -> None:
        assert self._process is not None and self._process.stdout is not None
        for line in self._process.stdout:
            answer = json.loads(line)
            if "shadow" in answer:
                self.shadow = answer["shadow"]
            else:
                self._answers.put(answer)
        self._stop(f"its process ended with status {self._process.wait()}")

    def _stop(self, reason: str) -> None:
        if self.stopped:
            return
        self.status = f"stopped: {reason}"
        logger.warning("Marconi: alpha is tuned no longer, %s; it stays as it is", reason)
        if self._process is not None:
            self._process.kill()  # the reader sees its end
        with contextlib.suppress(queue.Empty):
            while True:  # what waits may be gigabytes
                self._outbox.get_nowait()
