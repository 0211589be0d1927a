"""Alpha tuned by a process beside the server: tests that hold for each release and strategy.

A release's test module imports them; its `conftest` has the fixture `start`.
"""

import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import pytest
from marconi_sglang.tuner import TunerProcess

from marconi_core.sim.server import PoolSizes, marconi
from marconi_core.sim.server.settings import MarconiSettings
from marconi_core.sim.server.tuning import Following, OnlineTuner
from tests.sglang_cpu.server import CpuServer
from tests.sglang_cpu.starting import Start
from tests.sglang_cpu.workloads import COSTS, EVERY_BRANCH, random_requests

TUNED = MarconiSettings(tuner="window", bootstrap_multiplier=4, tuning_interval=40, **EVERY_BRANCH)
POOLS = (300, 8)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 180
    while not condition():
        assert time.monotonic() < deadline, "nothing came of it in three minutes"
        time.sleep(0.02)


def answers(load: CpuServer) -> int:
    """Return how many tunings the server knows of."""
    load.cache.tuner.poll()
    return len(load.cache.tuner.history)


@pytest.mark.parametrize(
    "settings", [TUNED, MarconiSettings(**EVERY_BRANCH)], ids=["window", "leader"]
)
def test_alpha_becomes_what_the_simulator_says(start: Start, settings: MarconiSettings) -> None:
    """The server takes a tuning when it comes; given the time, it ends where the tuner would."""
    load = start(settings, *POOLS)
    requests = list(random_requests(1, 100))
    tuner = OnlineTuner(
        Following(
            PoolSizes(*POOLS), marconi(branch_gain=1), COSTS, None, start.strategy, settings.method
        )
    )
    for prompt, output in requests:
        tunings = len(tuner.history)
        tuner.observe(prompt, output)
        load.serve(prompt, output)
        if len(tuner.history) > tunings:  # in step with the process, for once
            wait_for(lambda: answers(load) == len(tuner.history))
            assert load.cache.tuner.history[-1]["alpha"] == tuner.alpha
            load.cache.two_pool.configure(
                tuner.simulator.policy.eviction  # type: ignore[arg-type]
            )
        assert load.tree() == tuner.simulator.tree()
    assert len(tuner.history) >= 2 and any(t.alpha > 0 for t in tuner.history)
    shown = load.cache.marconi_state()
    assert shown["tuner"]["status"] == "running" and shown["alpha"] == tuner.alpha
    assert [t["alpha"] for t in shown["tuner"]["history"]] == [t.alpha for t in tuner.history]
    json.dumps(shown)


def test_a_new_alpha_is_taken_while_serving(start: Start) -> None:
    load = start(TUNED, *POOLS)
    requests = iter(random_requests(1, 4_000))

    def serve_one() -> bool:
        load.serve(*next(requests))
        return bool(load.cache.tuner.history)

    wait_for(serve_one)
    assert load.cache.two_pool.settings.alpha == load.cache.tuner.history[-1]["alpha"]
    load.check()


def test_serving_goes_on_when_the_process_dies(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    load = start(TUNED, *POOLS)
    requests = list(random_requests(1, 60))
    for request in requests[:20]:
        load.serve(*request)
    with caplog.at_level(logging.WARNING):
        os.kill(load.cache.tuner.pid, signal.SIGKILL)
        wait_for(lambda: load.cache.tuner.status != "running")
        for request in requests[20:]:
            load.serve(*request)
    assert load.cache.tuner.status == "stopped: its process ended with status -9"
    assert "alpha is tuned no longer" in caplog.text and caplog.text.count("no longer") == 1
    assert len(load.hits) == 60
    load.check()


def test_a_process_that_does_not_start_is_reported(start: Start) -> None:
    load = start(TUNED, *POOLS)
    load.cache.tuner = TunerProcess(load.cache.tuner._following, ["/nonexistent"])
    load.serve([1, 2, 3], [4])
    assert load.cache.tuner.status.startswith("stopped: it did not start")


def test_a_process_that_does_not_read_is_given_up(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory stays bounded, and the scheduler does not wait."""
    load = start(TUNED, *POOLS)
    monkeypatch.setattr("marconi_sglang.tuner.MOST_WAITING", 3)
    sleeper = [sys.executable, "-c", "import time; time.sleep(600)"]
    tuner = TunerProcess(load.cache.tuner._following, sleeper)
    try:
        began = time.monotonic()
        for _ in range(10):
            tuner.observe(range(200_000), [1])
        assert time.monotonic() - began < 5
        assert tuner.status == "stopped: it fell 3 requests behind"
        assert tuner._outbox.qsize() == 0  # and the process, which holds as much, is ended
        wait_for(lambda: tuner._process.returncode is not None)  # type: ignore[union-attr]
    finally:
        tuner.close()


def test_prefixes_that_are_kept_apart_are_left_out(start: Start) -> None:
    """The simulators would share them."""
    cache = start(TUNED, *POOLS).cache
    request = {"origin_input_ids": [1, 2], "output_ids": [3], "marconi_hit": 0}
    cache.finished(SimpleNamespace(extra_key="adapter", **request))
    assert cache.tuner.status == "idle"
    cache.finished(SimpleNamespace(extra_key=None, **request))
    assert cache.tuner.status == "running"


def test_alpha_stays_when_nothing_tunes_it_any_more(start: Start) -> None:
    load = start(TUNED, *POOLS)
    load.serve([1, 2, 3], [4])
    load.cache.two_pool.configure(replace(load.cache.two_pool.settings, alpha=1.5))
    load.cache.tuner.close()
    load.flush()
    assert load.cache.two_pool.settings.alpha == 1.5


def test_flushing_starts_the_tuner_over(start: Start) -> None:
    load = start(TUNED, *POOLS)
    requests = list(random_requests(1, 40))
    for request in requests:
        load.serve(*request)
    wait_for(lambda: answers(load) > 0)
    first = load.cache.marconi_state()["alpha"]
    load.cache.two_pool.configure(replace(load.cache.two_pool.settings, alpha=1.5))
    load.flush()
    assert load.cache.two_pool.settings == load.cache.settings.eviction and first == 0
    for request in requests:
        load.serve(*request)
    wait_for(lambda: answers(load) > 1)
    first, second = load.cache.tuner.history[:2]
    assert first["request"] == second["request"]


def test_what_was_tuned_for_a_cache_that_is_flushed_is_not_taken(start: Start) -> None:
    tuner = start(TUNED, *POOLS).cache.tuner
    tuner._process, tuner.status = object(), "running"  # one that answers late
    tuner.flushed()
    for flushes, alpha in ((0, 2.0), (1, 0.5), (0, 1.0)):
        tuner._answers.put({"request": 1, "alpha": alpha, "scores": {}, "flushes": flushes})
    assert tuner.poll() == 0.5 and [t["alpha"] for t in tuner.history] == [0.5]
    tuner._process = None


def test_a_given_alpha_is_not_tuned(start: Start) -> None:
    for settings in (
        MarconiSettings(eff_weight=0.5),
        MarconiSettings(admission_only=True),
        MarconiSettings(eviction_policy="lru"),
    ):
        assert start(settings, *POOLS).cache.tuner is None
