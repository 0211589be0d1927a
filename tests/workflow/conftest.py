"""Running the workflow in process, in a folder of its own."""

import runpy
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import pytest
from snakemake.api import SnakemakeApi
from snakemake.scheduling.greedy import SchedulerSettings as GreedySettings
from snakemake.settings.types import (
    ConfigSettings,
    DAGSettings,
    OutputSettings,
    Quietness,
    RerunTrigger,
    ResourceSettings,
    SchedulingSettings,
)

TRIGGERS = frozenset({RerunTrigger.MTIME, RerunTrigger.PARAMS, RerunTrigger.INPUT})


class Run(Protocol):
    """Plans or executes the workflow and returns how many jobs each rule had to run.

    Executed `here`, the scripts of all jobs run in this process, one after the other.
    """

    def __call__(
        self,
        *targets: str,
        config: str | None = None,
        execute: bool = False,
        here: bool = False,
        **options: Any,
    ) -> Counter[str]: ...


def run_script(checkout: Path, job: Any, config: dict[str, Any]) -> None:
    """Run the script of a planned job, if its rule has one."""
    if job.rule.script:
        names = ("input", "output", "params", "wildcards", "log")
        known = {name: getattr(job, name) for name in names}
        snakemake = SimpleNamespace(rule=job.rule.name, config=config, **known)
        runpy.run_path(str(checkout / "workflow/rules" / job.rule.script))["main"](snakemake)


@contextmanager
def parsed_rules(checkout: Path, **options: Any) -> Iterator[dict[str, Any]]:
    """Parse the workflow with these options beside its own configuration; nothing is planned or run.

    Yields:
        Snakemake's rules, by name.
    """
    with SnakemakeApi(OutputSettings(dryrun=True, quiet={Quietness.ALL})) as api:
        workflow = api.workflow(
            resource_settings=ResourceSettings(cores=1),
            config_settings=ConfigSettings(config=options),
            snakefile=checkout / "Snakefile",
            workdir=checkout,
        )
        workflow.dag()  # parses
        yield {rule.name: rule for rule in workflow._workflow.rules}


@pytest.fixture
def checkout(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the workflow to run in; the package is the installed one."""
    shutil.copy(repository / "Snakefile", tmp_path)
    shutil.copytree(repository / "workflow", tmp_path / "workflow")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(checkout: Path) -> Run:
    """The workflow of `checkout`."""

    def run(
        *targets: str,
        config: str | None = None,
        execute: bool = False,
        here: bool = False,
        **options: Any,
    ) -> Counter[str]:
        files = [checkout / f"workflow/config/{config}.yaml"] if config else []
        with SnakemakeApi(OutputSettings(dryrun=not execute, quiet={Quietness.ALL})) as api:
            workflow = api.workflow(
                resource_settings=ResourceSettings(cores=2),
                config_settings=ConfigSettings(config=options, configfiles=files),
                snakefile=checkout / "Snakefile",
                workdir=checkout,
            )
            dag = workflow.dag(DAGSettings(targets=set(targets), rerun_triggers=TRIGGERS))
            dag.execute_workflow(
                executor="local" if execute else "dryrun",
                scheduling_settings=SchedulingSettings(scheduler="greedy"),
                scheduler_settings=GreedySettings(),
            )
            planned = workflow._workflow.dag
            jobs = set(planned.needrun_jobs(exclude_finished=False))
            if here:
                for job in chain.from_iterable(planned.toposorted(jobs)):
                    run_script(checkout, job, workflow._workflow.config)
            return Counter(job.rule.name for job in jobs)

    return run
