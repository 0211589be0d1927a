"""The unchanged workflow on a real Slurm: the same bytes as on this machine alone, in few jobs.

`make test-slurm` runs it. Anywhere else it is skipped, with the reason, where the plug-in or Slurm is missing.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from marconi_core.datasets import UnavailableError
from marconi_core.files import sha256_file
from tests import real_data
from tests.slurm.cluster import Cluster, NoSlurmError, start_cluster

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not find_spec("snakemake_executor_plugin_slurm"),
        reason="Snakemake's plug-in for Slurm is not installed: make test-slurm",
    ),
]
PARTS = ("Snakefile", "workflow", "profiles")
# a cluster without accounting, and patience for seconds instead of hours
ON_SLURM = (
    "--profile=profiles/slurm",
    "--slurm-status-command=squeue",
    "--slurm-init-seconds-before-status-checks=2",
)
HERE = ("--cores=2",)
TABLES = (".parquet", ".csv", ".npz")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    try:
        with start_cluster() as cluster:
            yield cluster
    except NoSlurmError as reason:
        pytest.skip(f"no Slurm can be started here: {reason}")


@pytest.fixture
def checkout(repository: Path, tmp_path: Path) -> Path:
    """A folder with the workflow, whose results nobody else uses."""
    for part in PARTS:
        (tmp_path / part).symlink_to(repository / part)
    return tmp_path


def snakemake(checkout: Path, environment: dict[str, str], *words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--nocolor", *words],
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-5000:]


def tables(results: Path) -> dict[str, str]:
    """Digests of all tables below a folder of results, by name."""
    return {
        path.relative_to(results).as_posix(): sha256_file(path)
        for path in sorted(results.rglob("*"))
        if path.suffix in TABLES
    }


def run_both_ways(cluster: Cluster, checkout: Path, *words: str) -> None:
    """Run the workflow here and on the cluster, and compare every table."""
    snakemake(checkout, dict(os.environ), *HERE, *words, "--config", "results_dir=here")
    snakemake(checkout, cluster.environment, *ON_SLURM, *words, "--config", "results_dir=there")
    here, there = tables(checkout / "here"), tables(checkout / "there")
    assert here and there == here


def test_tiny_workload(cluster: Cluster, checkout: Path) -> None:
    before = len(cluster.finished())
    targets = ("fig6", "fig7", "fig9")
    run_both_ways(cluster, checkout, *targets, "--configfile=workflow/config/smoke.yaml")
    jobs = cluster.finished()[before:]
    assert [job.state for job in jobs] == ["COMPLETED"] * 2, "one of simulations, one of figures"
    # one simulation after the other: as much memory as the greediest rule, and one CPU
    assert [job.allocated["mem"] for job in jobs] == ["2500M", "1000M"]
    assert {job.allocated["cpu"] for job in jobs} == {"1"}


def test_servers_get_the_gpu_one_after_the_other(cluster: Cluster, checkout: Path) -> None:
    before = len(cluster.finished())
    snakemake(
        checkout,
        cluster.environment,
        *ON_SLURM,
        *("smoke_live", "--configfile=workflow/config/smoke.yaml"),
        "--resources=gpu=2",  # Slurm is to refuse two at once, not Snakemake
        *("--set-resources", "check_server:gpu=1", "check_server:cpus_per_gpu=1"),
    )
    first, second, page = cluster.finished()[before:]
    for server in (first, second):
        assert "TresPerJob=gres:gpu:1" in cluster.call("scontrol", "show", f"job={server.number}")
    assert first.end <= second.start <= page.start
    assert "gres" not in cluster.call("scontrol", "show", f"job={page.number}")


def test_sharegpt_grid(
    cluster: Cluster, checkout: Path, repository: Path, pytestconfig: pytest.Config
) -> None:
    cache = pytestconfig.cache
    assert cache is not None
    data = cache.mkdir("marconi-data")
    try:
        for name in ("sharegpt", "llama2_vocab"):
            real_data.fetch(name, data)
    except UnavailableError as reason:
        pytest.skip(str(reason))
    default = repository / "workflow/config/default.yaml"
    study = yaml.safe_load(default.read_text(encoding="utf-8"))
    config = {
        "data_dir": str(data),
        "policies": study["policies"],
        "datasets": {"sharegpt": study["datasets"]["sharegpt"]},
    }
    (checkout / "sharegpt.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    before = len(cluster.finished())
    run_both_ways(cluster, checkout, "--configfile=sharegpt.yaml")
    jobs = cluster.finished()[before:]
    print(*(f"{job.seconds:.0f} s: {job.allocated}" for job in jobs), sep="\n")
    assert [job.state for job in jobs] == ["COMPLETED"] * 2, "one of simulations, one of figures"
