"""SIGKILL at 20 random moments of a real pipeline, and resumes.

Minutes, and so not named like a test: `make test` leaves it out, `make test-faults` runs it.
"""

import os
import time
from collections.abc import Callable
from dataclasses import asdict

import pandas as pd
import pytest

from marconi_core import datasets
from tests import real_data
from tests.faults import record
from tests.faults.campaign import Undisturbed, kills
from tests.faults.pipeline import REPOSITORY, Pipeline

SEED = 20261124
KILLS = 20
SHAREGPT = """
policies: [vllm_plus, sglang_plus, marconi]
datasets:
  sharegpt:
    source: sharegpt
    paper_dataset: sharegpt
    sessions: 100
    arrivals:
      kind: typing
      sessions_per_second: [0.25, 0.5, 1, 2, 5, 10]
    capacities_bytes: [1e9, 2e9, 3e9, 4e9, 5e9, 1e10]
    bootstrap_multiplier: 5
"""
TARGETS = ("fig7", "fig9", "claims")
DAY_S = 24 * 3600

Make = Callable[[str], Pipeline]


@pytest.fixture(scope="module")
def workload(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Make]:
    """ShareGPT where it can be had, else the smoke workload; and what makes a pipeline of it."""
    folder = tmp_path_factory.mktemp("kills")
    name, config = "ShareGPT", folder / "sharegpt.yaml"
    settings: dict[str, object] = {"data_mirror": folder / "mirror"}
    try:
        for file in ("sharegpt", "llama2_vocab"):
            real_data.fetch(file, folder / "mirror")
        config.write_text(SHAREGPT, encoding="utf-8")
    except datasets.UnavailableError:
        name, config = "smoke", REPOSITORY / "workflow/config/smoke.yaml"
        settings = {"results_dir": "results"}
    return name, lambda run: Pipeline(folder / run, config, TARGETS, **settings)


@pytest.fixture(scope="module")
def pipeline(workload: tuple[str, Make]) -> Pipeline:
    """A pipeline that nobody kills."""
    return workload[1]("undisturbed")


@pytest.fixture(scope="module")
def undisturbed(pipeline: Pipeline) -> Undisturbed:
    """What it does."""
    return Undisturbed.of(pipeline)


def test_nothing_is_lost_by_kills(workload: tuple[str, Make], undisturbed: Undisturbed) -> None:
    name, make = workload
    found = kills(lambda number: make(f"killed-{number}"), undisturbed, SEED, KILLS)
    rows = pd.DataFrame(map(asdict, found))
    record.write(rows, REPOSITORY / "results/faults", name, SEED, undisturbed.seconds)
    assert rows["identical"].all() and rows["intact"].all()
    assert (rows["nonzero_exit"] | (rows["process"] == "fetch")).all()  # which is tried again
    assert not rows["recomputed"].any()


def test_a_clock_that_was_ahead_makes_nothing_run_again(
    pipeline: Pipeline, undisturbed: Undisturbed
) -> None:
    """Its time stamps make data and compiled traces newer than what was computed from them."""
    tomorrow = time.time() + DAY_S
    for path in undisturbed.results:
        if path.parts[1] in ("data", "traces"):
            os.utime(pipeline.folder / path, (tomorrow, tomorrow))
    before = pipeline.complete()
    run = pipeline.run()
    assert (run.process.returncode, run.finished) == (0, 0), run.text
    assert pipeline.complete() == before
