"""How fast the host is while something is measured: the same small piece of work, timed again and again.

Short prompts wait for the CPU to launch their kernels, and a shared host is not equally fast at all times.
The work is done by a process of its own, so that neither client nor server waits for it. As a script this
writes the milliseconds of each piece of work, a line each, until its standard input ends.
"""

import contextlib
import select
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

EVERY_S = 0.25
TURNS = 40_000  # 2 ms of one core


@dataclass
class HostPace:
    """What was timed.

    Attributes:
        started: when, in seconds since the epoch.
        work_ms: milliseconds that the work took, one about every `EVERY_S` seconds; once it has ended.
    """

    started: float = field(default_factory=lambda: round(time.time(), 3))
    work_ms: list[float] = field(default_factory=list)

    def described(self) -> dict[str, Any]:
        """Return all of it and the median, as JSON."""
        middle = statistics.median(self.work_ms) if self.work_ms else None
        return {"host_pace": {"every_s": EVERY_S, "median_ms": middle, **asdict(self)}}


@contextlib.contextmanager
def host_pace() -> Iterator[HostPace]:
    """Time the host's pace while the block runs."""
    pace = HostPace()
    with tempfile.TemporaryFile("w+") as lines:
        watcher = subprocess.Popen(
            [sys.executable, "-I", __file__],
            stdin=subprocess.PIPE,
            stdout=lines,
            start_new_session=True,  # Ctrl-C is for this process
        )
        try:
            yield pace
        finally:
            watcher.communicate()
            lines.seek(0)
            pace.work_ms += map(float, lines)


def main() -> None:
    """Write lines until standard input ends, as it does when the parent is gone."""
    while True:
        start = time.monotonic()
        total = 0
        for turn in range(TURNS):
            total += turn & 7
        print(f"{1e3 * (time.monotonic() - start):.3f}", flush=True)
        if select.select([sys.stdin], [], [], EVERY_S)[0]:
            return


if __name__ == "__main__":
    main()
