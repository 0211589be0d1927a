"""The host's pace while something is measured."""

import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import Any

import pytest

from marconi_core.serving import hostpace
from tests.unit.test_serving import alive


@pytest.fixture
def watchers(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """The processes that are started."""
    started = []

    def popen(*words: Any, **how: Any) -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen(*words, **how))
        return started[-1]

    monkeypatch.setattr(hostpace, "subprocess", SimpleNamespace(Popen=popen, PIPE=subprocess.PIPE))
    return started


def test_the_same_work_is_timed_again_and_again(watchers: list[subprocess.Popen[bytes]]) -> None:
    began = time.time()
    with hostpace.host_pace() as pace:
        time.sleep(1.2)
        [watcher] = watchers
        assert watcher.poll() is None
    assert watcher.returncode == 0
    assert 2 <= len(pace.work_ms) <= 5 and all(0 < ms < 1000 for ms in pace.work_ms)
    found = pace.described()["host_pace"]
    assert found["work_ms"] == pace.work_ms and abs(found["started"] - began) < 1
    assert min(pace.work_ms) <= found["median_ms"] <= max(pace.work_ms)


def test_nothing_is_left_running_after_a_failure(
    watchers: list[subprocess.Popen[bytes]],
) -> None:
    with pytest.raises(RuntimeError, match="meanwhile"), hostpace.host_pace():
        raise RuntimeError("meanwhile")
    assert [watcher.returncode for watcher in watchers] == [0]


def test_it_ends_when_its_parent_is_killed() -> None:
    code = (
        "import subprocess, time\n"
        "from marconi_core.serving.hostpace import host_pace\n"
        "popen = subprocess.Popen\n"
        "def spy(*words, **how):\n"
        "    process = popen(*words, **how); print(process.pid, flush=True); return process\n"
        "subprocess.Popen = spy\n"
        "with host_pace(): time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        watcher = int(parent.stdout.readline())
        os.kill(parent.pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while alive(watcher):
        assert time.monotonic() < deadline
        time.sleep(0.05)
