"""Kills at random moments, each followed by a resume, and what that did to the results."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from tests.faults.pipeline import Output, Pipeline

KINDS = ("snakemake", "rule", "worker")
KILLS_EACH = 2
"""So often is one pipeline killed before it may finish; then the next one begins."""


@dataclass(frozen=True)
class Undisturbed:
    """What a pipeline does that nobody kills.

    Attributes:
        results: SHA-256 of every result by its path.
        jobs: number of jobs.
        seconds: from start to end, with code that is compiled already.
    """

    results: Mapping[Path, str]
    jobs: int
    seconds: float

    @classmethod
    def of(cls, pipeline: Pipeline) -> "Undisturbed":
        """Run a pipeline to its end, twice: the first run may have to compile code."""
        for options in ((), ("--forceall",)):
            run = pipeline.run(*options)
            assert run.process.returncode == 0, run.text
        return cls(pipeline.results(), run.finished, run.seconds)


@dataclass
class Kill:
    """One SIGKILL, and the run after it.

    Attributes:
        pipeline: number of the pipeline, from 0.
        kind: what was to be killed: Snakemake, a rule's process, a simulation's process.
        process: what was killed: ``snakemake``, or the rule's script.
        after_s: seconds from the start of that run.
        jobs: of the whole pipeline.
        complete: jobs complete when the killed run was over.
        intact: every complete file has the bytes of the undisturbed run.
        nonzero_exit: Snakemake told its caller that it has failed; it tries fetching once more first.
        recomputed: complete jobs whose files the next run touched all the same.
        identical: in the end all results are, byte for byte, those of the undisturbed run, with
            nothing beside them, and one more run has nothing to do.
    """

    pipeline: int
    kind: str
    process: str
    after_s: float
    jobs: int
    complete: int
    intact: bool
    nonzero_exit: bool
    recomputed: int = 0
    identical: bool = False


def kills(
    make: Callable[[int], Pipeline], undisturbed: Undisturbed, seed: int, wanted: int
) -> list[Kill]:
    """Kill at random moments until there have been as many kills as wanted.

    Args:
        make: returns a new pipeline, given its number.
    """
    rng = random.Random(seed)
    found: list[Kill] = []
    for number in count():
        pipeline = make(number)
        new = _disturb(pipeline, number, undisturbed, rng, len(found), wanted)
        identical = pipeline.results() == undisturbed.results and pipeline.run().finished == 0
        for kill in new:
            kill.identical = identical
        found += new
        if len(found) == wanted:
            return found
    raise AssertionError("count() does not end")


def _disturb(
    pipeline: Pipeline,
    number: int,
    undisturbed: Undisturbed,
    rng: random.Random,
    before: int,
    wanted: int,
) -> list[Kill]:
    """Run one pipeline to its end, with some kills on the way."""
    found: list[Kill] = []
    complete: Mapping[Path, Output] = {}
    while True:
        run = pipeline.start()
        kind, process = rng.choice(KINDS), None
        if len(found) < min(KILLS_EACH, wanted - before):
            left = 1 - _jobs(complete) / undisturbed.jobs
            process = run.kill(kind, rng.uniform(0, left * undisturbed.seconds), rng.random())
        run.wait()
        earlier, complete = complete, pipeline.complete()
        if found:
            found[-1].recomputed = _jobs(
                {path: output for path, output in earlier.items() if complete.get(path) != output}
            )
        if process is None:
            assert run.process.returncode == 0, run.text
            return found
        found.append(
            Kill(
                number,
                kind,
                process,
                round(run.killed_s, 2),
                undisturbed.jobs,
                _jobs(complete),
                all(undisturbed.results[path] == pipeline.digest(path) for path in complete),
                run.process.returncode != 0,
            )
        )
        if kind == "snakemake":
            pipeline.run("--unlock")  # as its message says


def _jobs(outputs: Mapping[Path, Output]) -> int:
    return len({output.job for output in outputs.values()})
