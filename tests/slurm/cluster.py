"""A Slurm cluster of one node on this machine, for as long as it is needed.

    python -m tests.slurm.cluster COMMAND...   # runs a command with the cluster, then ends both

Debian's `slurm-wlm` and `munge` are enough: no systemd, no cgroups, no accounting. Everything lives in
one temporary folder, ports are free ones, and `SLURM_CONF` leads Slurm's own commands there.
"""

import getpass
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "sinfo", "squeue", "scancel")
SYSTEM_FOLDERS = "/usr/local/sbin:/usr/sbin"  # of daemons; often not in a user's PATH
PATIENCE_S = 30.0
CONFIGURATION = """\
ClusterName=marconi
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/pgid
TaskPlugin=task/affinity
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/jobs.txt
GresTypes=gpu
{node} NodeAddr=127.0.0.1 Gres=gpu:1
PartitionName=all Nodes=ALL Default=YES
"""


class NoSlurmError(Exception):
    """A cluster cannot be started here; the message says why."""


@dataclass(frozen=True)
class Job:
    """A job that has ended.

    Attributes:
        number: Slurm's number of it.
        state: how it ended, e.g. ``COMPLETED``.
        start: when it began to run, to the second.
        end: when it had ended, to the second.
        allocated: resources by name, e.g. ``{"cpu": "1", "mem": "1000M", "gres/gpu": "1"}``.
    """

    number: int
    state: str
    start: datetime
    end: datetime
    allocated: dict[str, str]

    @property
    def seconds(self) -> float:
        """Wall-clock seconds that it ran."""
        return (self.end - self.start).total_seconds()


@dataclass(frozen=True)
class Cluster:
    """A running cluster: its folder, and the environment in which Slurm's commands find it."""

    folder: Path
    environment: dict[str, str]

    def call(self, *command: str) -> str:
        """Run one of Slurm's commands and return what it prints."""
        return subprocess.run(
            command, env=self.environment, check=True, capture_output=True, text=True
        ).stdout

    def finished(self) -> list[Job]:
        """Return all jobs in the order in which they ended, once none is left in the queue."""
        _wait_for("the end of all jobs", lambda: not self.call("squeue", "--noheader"))
        path = self.folder / "jobs.txt"
        return [_job(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _job(line: str) -> Job:
    fields = dict(word.split("=", 1) for word in line.split() if "=" in word)
    return Job(
        number=int(fields["JobId"]),
        state=fields["JobState"],
        start=datetime.fromisoformat(fields["StartTime"]),
        end=datetime.fromisoformat(fields["EndTime"]),
        allocated=dict(item.split("=") for item in fields["Tres"].split(",")),
    )


@contextmanager
def start_cluster() -> Iterator[Cluster]:
    """Start a cluster, and end it with all its jobs.

    Raises:
        NoSlurmError: none can be started here.
    """
    path = f"{os.environ['PATH']}:{SYSTEM_FOLDERS}"
    missing = [name for name in NEEDED if not shutil.which(name, path=path)]
    if missing:
        raise NoSlurmError(f"{', '.join(missing)} not found: install slurm-wlm and munge")
    with ExitStack() as stack:
        # not below the working directory: the path of a socket must be short
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slurm-")))
        own = {"PATH": f"{folder}/bin:{path}", "SLURM_CONF": f"{folder}/slurm.conf"}
        cluster = Cluster(folder, os.environ | own)
        _configure(cluster)
        authentication = [f"--{what}-file={folder}/munge.{what}" for what in ("key", "seed", "pid")]
        authentication += [f"--log-file={folder}/munged.log", f"--socket={folder}/munge.sock"]
        stack.enter_context(_daemon(cluster, "munged", "--foreground", "--force", *authentication))
        _wait_for("munge", (folder / "munge.sock").exists, cluster)
        stack.enter_context(_daemon(cluster, "slurmctld", "-D"))
        stack.enter_context(_daemon(cluster, "slurmd", "-D"))
        _wait_for("the node", lambda: _node_state(cluster) == "idle", cluster)
        stack.callback(_cancel_all, cluster)
        yield cluster


def _configure(cluster: Cluster) -> None:
    folder = cluster.folder
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o400)
    (folder / "state").mkdir()
    (folder / "spool").mkdir()
    ports = _free_ports(2)
    configuration = CONFIGURATION.format(
        host=socket.gethostname().partition(".")[0],
        controller_port=ports[0],
        node_port=ports[1],
        user=getpass.getuser(),
        folder=folder,
        node=cluster.call("slurmd", "-C").splitlines()[0],  # this machine as Slurm sees it
    )
    (folder / "slurm.conf").write_text(configuration, encoding="utf-8")
    # a device that is everywhere: what is wanted is the bookkeeping
    (folder / "gres.conf").write_text("Name=gpu File=/dev/null\n", encoding="utf-8")

    # Snakemake's plug-in for steps of a job takes all SLURM_* from the environment of `srun`
    srun = folder / "bin" / "srun"
    srun.parent.mkdir()
    found = shutil.which("srun", path=cluster.environment["PATH"])
    srun.write_text(f'#!/bin/sh\nSLURM_CONF={folder}/slurm.conf exec {found} "$@"\n')
    srun.chmod(0o755)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextmanager
def _daemon(cluster: Cluster, name: str, *arguments: str) -> Iterator[None]:
    with (
        (cluster.folder / f"{name}.out").open("wb") as output,
        subprocess.Popen(
            [name, *arguments],
            env=cluster.environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        try:
            yield
        finally:
            process.terminate()


def _node_state(cluster: Cluster) -> str:
    try:
        return cluster.call("sinfo", "--noheader", "--format=%T").strip()
    except subprocess.CalledProcessError:
        return "the controller does not answer yet"


def _cancel_all(cluster: Cluster) -> None:
    cluster.call("scancel", f"--user={getpass.getuser()}")
    _wait_for("the end of all jobs", lambda: not cluster.call("squeue", "--noheader"))


def _wait_for(what: str, ready: Callable[[], bool], starting: Cluster | None = None) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not ready():
        if time.monotonic() > deadline:
            said = (
                [path.read_text().strip() for path in starting.folder.glob("*.out")]
                if starting
                else []
            )
            raise NoSlurmError(
                "\n".join([f"waited {PATIENCE_S:g} s for {what}", *filter(None, said)])
            )
        time.sleep(0.2)


def main(command: Sequence[str]) -> int:
    """Run a command with a cluster and return its exit status."""
    with start_cluster() as cluster:
        return subprocess.run(command, env=cluster.environment).returncode


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except NoSlurmError as error:
        sys.exit(f"ERROR: no Slurm here: {error}")
