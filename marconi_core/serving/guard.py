"""Runs one command and ends all of it when whoever wanted it is gone.

    python guard.py PARENT_PID GRACE_S LOG COMMAND...

A script of its own, standard library only. It writes the command's process id to standard output,
then waits for the first of: the command ends; standard input closes or the parent is gone (a crash
or SIGKILL included); SIGTERM. Then it ends every process of the command: SIGTERM to the command
itself, and once that has ended, or after `GRACE_S` seconds, SIGKILL to all that are left. It exits
with the command's status (128 + N for signal N). Anything that it was handed open (the lease of a
GPU) stays held until the last of these processes is gone.
"""

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
POLL_S = 0.2
KILL_PATIENCE_S = 30.0  # a process in the GPU driver may take seconds to die


def _prctl(option: int, value: int) -> None:
    """Call prctl(2) where there is one."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _die_with_guard() -> None:
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _descendants() -> set[int]:
    """Return the living processes below this one, whatever session or group they moved to.

    As a subreaper, the guard inherits those whose parents are gone. Empty where there is no /proc.
    """
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # the command's name, in parentheses, may hold spaces
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                children.setdefault(int(parent), []).append(int(stat.parent.name))
    found: set[int] = set()
    waiting = [os.getpid()]
    while waiting:
        for child in children.get(waiting.pop(), []):
            found.add(child)
            waiting.append(child)
    return found


def _signal_all(group: int, number: int) -> bool:
    """Send a signal to the group and all descendants; return whether there was anyone."""
    anyone = False
    for process in _descendants():
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, number)
            anyone = True
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
        anyone = True
    return anyone


def _alive(command: subprocess.Popen[bytes]) -> bool:
    """Collect the dead; return whether anything of the command still runs."""
    if command.poll() is not None:  # its status first, else waitpid(-1) would take it
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
    return _signal_all(command.pid, 0)


def _end(command: subprocess.Popen[bytes], grace_s: float) -> None:
    """Ask the command to end, as it may have its own children to end; then insist on the rest."""
    if command.poll() is None:
        command.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            command.wait(grace_s)
    deadline = time.monotonic() + KILL_PATIENCE_S
    while _alive(command) and time.monotonic() < deadline:
        _signal_all(command.pid, signal.SIGKILL)
        time.sleep(0.05)


def main(arguments: list[str]) -> int:
    """Run the command until it ends or is not wanted any more; return its status."""
    parent, grace_s, log = int(arguments[0]), float(arguments[1]), arguments[2]
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    unwanted = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal unwanted
        unwanted = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with open(log, "ab") as file:
        command = subprocess.Popen(
            arguments[3:],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_die_with_guard,
        )
    sys.stdout.write(f"{command.pid}\n")
    sys.stdout.flush()
    while not unwanted and command.poll() is None and os.getppid() == parent:
        # nobody writes to standard input: readable means closed
        unwanted = bool(select.select([sys.stdin], [], [], POLL_S)[0])
    _end(command, grace_s)
    status = command.returncode
    return 1 if status is None else status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
