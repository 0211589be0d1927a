"""The workflow as processes that can be killed, and what Snakemake holds complete at any moment."""

import base64
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from marconi_core.files import sha256_file

SCRIPT = re.compile(r"\.snakemake/scripts/tmp[^.]*\.(\w+)\.py$")
TIMEOUT_S = 1800
REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True)
class Output:
    """A complete file: the job that made it (its log), and by what a rewrite would show."""

    job: str
    inode: int
    mtime_ns: int


class Pipeline:
    """A folder with the workflow in it, to be run with one configuration.

    Args:
        config: a configuration whose results_dir is ``results``.
        settings: further keys of the configuration.
    """

    def __init__(
        self, folder: Path, config: Path, targets: Sequence[str], **settings: object
    ) -> None:
        self.folder = folder
        shutil.copytree(REPOSITORY / "workflow", folder / "workflow")
        shutil.copytree(REPOSITORY / "profiles", folder / "profiles")
        shutil.copy(REPOSITORY / "Snakefile", folder)
        self._command = [sys.executable, "-m", "snakemake", "--cores", "2"]
        self._command += ["--configfile", str(config)]
        self._command += ["--config", *(f"{key}={value}" for key, value in settings.items())]
        self._targets = ["--", *targets]
        self._runs = 0

    def start(self, *options: str, **environment: str) -> "Run":
        """Start Snakemake; what it prints goes to a file."""
        self._runs += 1
        log = self.folder / f"run-{self._runs}.txt"
        with log.open("wb") as output:
            process = psutil.Popen(
                [*self._command, *options, *self._targets],
                cwd=self.folder,
                env=os.environ | environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        return Run(process, log)

    def run(self, *options: str, **environment: str) -> "Run":
        """Start Snakemake and wait for its end."""
        run = self.start(*options, **environment)
        run.wait()
        return run

    def complete(self) -> dict[Path, Output]:
        """Return the outputs that Snakemake has recorded as complete and that are there."""
        unfinished = self._records("incomplete")
        outputs = {}
        for path, record in self._records("metadata").items():
            if path not in unfinished and (self.folder / path).exists():
                status = (self.folder / path).stat()
                job = json.loads(record.read_bytes())["log"][0]
                outputs[path] = Output(job, status.st_ino, status.st_mtime_ns)
        return outputs

    def _records(self, kind: str) -> Mapping[Path, Path]:
        """Return Snakemake's records of a kind by the file that each is about."""
        return {
            Path(base64.urlsafe_b64decode(record.name).decode()): record
            for record in (self.folder / ".snakemake" / kind).glob("*")
            if record.is_file()
        }

    def results(self) -> dict[Path, str]:
        """Return the SHA-256 of every result by path; logs and timings differ from run to run."""
        return {
            path: self.digest(path)
            for path in sorted(p.relative_to(self.folder) for p in self.folder.glob("results/**/*"))
            if (self.folder / path).is_file() and path.parts[1] not in ("logs", "benchmarks")
        }

    def digest(self, path: Path) -> str:
        """Return the SHA-256 of a file of this pipeline."""
        return sha256_file(self.folder / path)


class Run:
    """One call of Snakemake.

    Attributes:
        seconds: from start to end, once `wait` has returned.
        killed_s: from start to the kill, if there was one.
    """

    def __init__(self, process: psutil.Popen, log: Path) -> None:
        self.process = process
        self.seconds = self.killed_s = float("nan")
        self._log = log
        self._started = time.monotonic()

    def wait(self) -> None:
        """Wait for its end."""
        self.process.wait(TIMEOUT_S)
        self.seconds = time.monotonic() - self._started

    @property
    def text(self) -> str:
        """What it has printed so far."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    @property
    def finished(self) -> int:
        """Number of jobs that have ended well."""
        return self.text.count("\nFinished jobid: ")

    def kill(self, kind: str, after_s: float, which: float = 0.0) -> str | None:
        """Kill after some time, or as soon after that as there is something to kill.

        Args:
            kind: ``snakemake``; ``rule``, any job's process; or ``worker``, a simulation's.
            after_s: seconds from the start.
            which: of several processes, 0 to 1.

        Returns:
            What was killed: ``snakemake``, or the rule's script; None if the run had ended before.
        """
        time.sleep(max(0.0, self._started + after_s - time.monotonic()))
        while self.process.poll() is None:
            targets = [("snakemake", self.process)] if kind == "snakemake" else self._jobs()
            if kind == "worker":
                targets = [target for target in targets if target[0] == "simulate"]
            if targets:
                name, process = targets[int(which * len(targets))]
                with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended: the next one
                    process.send_signal(signal.SIGKILL)
                    self.killed_s = time.monotonic() - self._started
                    return name
            time.sleep(0.01)
        return None

    def _jobs(self) -> list[tuple[str, psutil.Process]]:
        """Return the processes of jobs and the names of their scripts."""
        found = []
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in self.process.children(recursive=True):
                script = SCRIPT.search(" ".join(child.cmdline()))
                if script:
                    found.append((script[1], child))
        return found
