"""One live server from start to stop: lease, port, launch, health, and no orphan whatever happens."""

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Self

from marconi_core.progress import Heartbeat
from marconi_core.serving import guard
from marconi_core.serving.client import Client, ServerInfo
from marconi_core.serving.errors import ServingError
from marconi_core.serving.lease import gpus, leased
from marconi_core.serving.local_files import with_local_files
from marconi_core.serving.spec import Runtime, ServerSpec

logger = logging.getLogger(__name__)

START_TIMEOUT_S = 900.0
GRACE_S = 20.0
POLL_S = 0.5
DEATH_NOTICE_S = 1.0  # a broken connection is seen before the death that caused it
TAIL_LINES = 30
TAIL_BYTES = 64 * 1024
GUARD_PATIENCE_S = guard.KILL_PATIENCE_S + 10


class Process:
    """A command under a guard (see `guard`): ends with this process at the latest.

    Args:
        command: words to run.
        log: file that its output is appended to.
        environment: variables of the command; this process's own if None.
        grace_s: seconds between SIGTERM and SIGKILL when it is stopped.
        held: file descriptors kept open until all of the command's processes are gone.
    """

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        *,
        environment: Mapping[str, str] | None = None,
        grace_s: float = GRACE_S,
        held: Sequence[int] = (),
    ) -> None:
        self.log = log
        self._grace_s = grace_s
        log.parent.mkdir(parents=True, exist_ok=True)
        log.touch()
        self._guard = subprocess.Popen(
            [
                sys.executable,
                "-I",
                guard.__file__,
                str(os.getpid()),
                str(grace_s),
                str(log),
                *command,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            pass_fds=held,
            start_new_session=True,  # Ctrl-C is for this process; it then stops the command in order
        )
        assert self._guard.stdin and self._guard.stdout and self._guard.stderr
        written = self._guard.stdout.readline()
        if not written:
            reason = self._guard.stderr.read().decode(errors="replace").strip().splitlines()
            self._guard.wait()
            raise ServingError(f"{command[0]} cannot be started: {reason[-1] if reason else '?'}")
        self.pid = int(written)

    @property
    def status(self) -> int | None:
        """Exit status of the ended command (128 + N after signal N), None while anything runs."""
        return self._guard.poll()

    def tail(self, lines: int = TAIL_LINES) -> str:
        """Return the last lines of its output."""
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - TAIL_BYTES))
            return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])

    def ended(self, within_s: float = 0.0) -> bool:
        """Return whether the command has ended, or does so within some seconds."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._guard.wait(within_s)
        return self.status is not None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the command and all its descendants; returns when they are gone."""
        assert self._guard.stdin and self._guard.stdout and self._guard.stderr
        for pipe in (self._guard.stdin, self._guard.stdout, self._guard.stderr):
            pipe.close()
        try:
            self._guard.wait(self._grace_s + GUARD_PATIENCE_S)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self._guard.kill()
            raise ServingError(
                f"process {self.pid} does not end, not even by SIGKILL: the GPU's driver may hang. "
                "Look at it with `nvidia-smi` before the next start"
            ) from None


class Server(NamedTuple):
    """A server that has answered.

    Attributes:
        spec: what was asked for.
        process: its process and log.
        client: its address.
        info: what it said of itself after the start.
        start_s: seconds from launch to health.
        gpus: names of those that it has; none for a simulated one.
    """

    spec: ServerSpec
    process: Process
    client: Client
    info: ServerInfo
    start_s: float
    gpus: tuple[str, ...] = ()


@contextlib.contextmanager
def running(
    spec: ServerSpec,
    log: str | os.PathLike[str],
    *,
    runtime: Runtime | None = None,
    port: int | None = None,
    start_timeout_s: float = START_TIMEOUT_S,
    grace_s: float = GRACE_S,
) -> Iterator[Server]:
    """Start a server, wait until it is healthy, yield it, stop it.

    It has its GPUs to itself: the first visible ones that are free (see `lease`; a simulated one needs
    none). When the block is left, by an exception or Ctrl-C too, the server and all its processes are gone;
    if this process is killed they end by themselves.

    Args:
        spec: the server.
        log: file for its output; an earlier one is overwritten.
        runtime: where SGLang is installed; this interpreter's packages by default.
        port: on the loopback interface; a free one by default.
        start_timeout_s: seconds it may take to become healthy. Kernels that must be compiled first
            take minutes.
        grace_s: seconds between SIGTERM and SIGKILL at the end.

    Raises:
        ServingError: files are missing, the GPU or port is taken, the server ends or does not become
            healthy (with the end of its log), it is another version than asked for, or it ended
            while the block ran.
    """
    runtime = runtime or Runtime()
    log = Path(log)
    spec.check_files()
    if spec.server == "simulated":
        from marconi_core.serving.simulated.flags import times_of_spec  # real servers go without

        times_of_spec(spec)  # refuses a server that would not know how long batches take
    if runtime.site is not None and not runtime.site.is_dir():
        raise ServingError(f"site: {runtime.site} is no folder; unpack the bundle first")
    port = _free_port() if port is None else _checked_port(port)
    holder = f"process {os.getpid()} ({spec.label}, port {port})"
    count = spec.tensor_parallel if spec.server == "sglang" else 0
    with (
        leased(gpus(count) if count else (), holder, count) as lease,
        with_local_files(spec) as placed,
    ):
        command = runtime.command(placed, port)
        _made_room(log)
        logger.info("starting %s on port %d, log in %s", spec.label, port, log)
        environment = runtime.environment(spec)
        if lease.gpus:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(lease.gpus)
        with Process(
            command, log, environment=environment, grace_s=grace_s, held=lease.descriptors
        ) as process:
            client = Client(port)
            start_s = _wait(process, client, start_timeout_s)
            info = client.info()
            if info.version != spec.sglang:
                raise ServingError(
                    f"sglang: {spec.sglang} is wanted, {info.version} answers; install that version "
                    "or say which one is meant"
                )
            logger.info("healthy after %.0f s", start_s)
            try:
                yield Server(spec, process, client, info, start_s, lease.gpus)
            except Exception as error:
                if not process.ended(within_s=DEATH_NOTICE_S):
                    raise
                raise ServingError(
                    f"the server ended with status {process.status} while in use ({error}); "
                    f"end of {log}:\n{process.tail()}"
                ) from error


def _made_room(log: Path) -> None:
    """Delete an earlier log, or say why there can be none."""
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.unlink(missing_ok=True)
        log.touch()
    except OSError as error:
        raise ServingError(
            f"log: {log} cannot be written ({error.strerror}); name another file"
        ) from None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _checked_port(port: int) -> int:
    if not 0 < port < 65536:
        raise ServingError(f"port: {port} is none; leave it out for a free one")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise ServingError(
                f"port: {port} cannot be had ({error.strerror}); leave it out for a free one"
            ) from None
    return port


def _wait(process: Process, client: Client, timeout_s: float) -> float:
    """Wait for health; return the seconds it took."""
    start = time.monotonic()
    heartbeat = Heartbeat(logger, "waiting for the server, %.0f s so far: %s", interval_s=10)
    while True:
        waited = time.monotonic() - start
        if process.status is not None:
            raise ServingError(
                f"the server ended with status {process.status} after {waited:.0f} s; "
                f"end of {process.log}:\n{process.tail()}"
            )
        if client.status("/health") == 200:
            return time.monotonic() - start
        if waited > timeout_s:
            raise ServingError(
                f"the server is not healthy after {timeout_s:.0f} s; compiling kernels for the first "
                f"time takes minutes, allow it more or read the end of {process.log}:\n"
                f"{process.tail()}"
            )
        heartbeat.beat(waited, process.tail(1)[-150:])
        time.sleep(POLL_S)
