"""Several requests at a time: the simulated scheduler against SGLang's own classes, batch by batch."""

import random
from collections.abc import Iterable
from dataclasses import replace
from itertools import islice

import pytest

from marconi_core.sim.server import PoolSizes, TrackGrid, batching, engine, server_simulator
from marconi_core.sim.server.batching import BatchingServer
from marconi_core.sim.server.settings import MarconiSettings
from tests.patch.cpu_server import Setup
from tests.patch.faults import swap_buffers_once
from tests.patch.workloads import COSTS, SETTINGS, Request, random_requests, server
from tests.sglang_cpu import conversations
from tests.sglang_cpu.equality import policy_of, same

POOLS = ((2000, 60), (600, 40), (250, 40))
CHUNKS = (None, 16, 21)
NAMES = ("stock", "admission only", "alpha 0", "alpha 1", "seglen", "alpha 1, branch gain 6")
STRATEGIES = ("no_buffer", "extra_buffer")
REQUESTS = 80
BURSTS = (0, 0, 0, 0, 1, 2, 5)
"""Requests that may arrive before a step."""


@pytest.fixture(autouse=True)
def _no_wrong_states(monkeypatch: pytest.MonkeyPatch) -> None:
    """SGLang's fault changes what states hold, not where they are."""
    swap_buffers_once(monkeypatch)


def setup_of(strategy: str, pools: tuple[int, int], chunk: int | None) -> Setup:
    overlap = strategy == "extra_buffer"
    return Setup(*pools, running=8, chunk=chunk, strategy=strategy, overlap=overlap)


class Stepper:
    """Runs the simulated server in step with a real one.

    Attributes:
        most_decoding: requests that one step served, at most.
    """

    def __init__(self, setup: Setup, settings: MarconiSettings | None) -> None:
        policy = policy_of(settings)
        if settings is not None:
            policy = replace(policy, probation=True)
        simulator = server_simulator(
            setup.strategy,  # type: ignore[arg-type]
            PoolSizes(setup.kv_tokens, setup.states),
            policy,
            COSTS,
            setup.chunk,
            TrackGrid(setup.track_chunk, setup.track_every),
        )
        self.server = BatchingServer(simulator, setup.running)
        self.most_decoding = 0

    def step(self) -> None:
        batch = self.server.step().launched
        self.most_decoding = max(self.most_decoding, len(batch.decoding) if batch else 0)


def first_difference(
    setup: Setup,
    settings: MarconiSettings | None,
    requests: Iterable[Request] | None = None,
    stepper: Stepper | None = None,
) -> int | None:
    """Let requests arrive in bursts at both servers; return the step after which they differ."""
    rng = random.Random(1)
    real, stepper = server(setup, settings), stepper or Stepper(setup, settings)
    if requests is None:
        requests = random_requests(1, REQUESTS, vocabulary=4, outputs=30)
    pending = iter(requests)
    sent, step, more, ended = {}, 0, True, False
    while more or not ended:
        count = rng.choice(BURSTS)
        arrived = list(islice(pending, count))
        ended = len(arrived) < count
        for prompt, output in arrived:
            name = real.submit(prompt, output)
            sent[name] = stepper.server.submit(name, prompt, output)
        more = real.step()
        stepper.step()
        hits = {name: r.running.hit for name, r in sent.items() if r.running is not None}
        if hits != real.hits or not same(real, stepper.server.simulator):
            return step
        step += 1
    assert all(request.finished for request in sent.values())
    real.check()
    return None


@pytest.mark.parametrize("pools", POOLS, ids=str)
@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_step(strategy: str, name: str, chunk: int | None, pools: tuple[int, int]) -> None:
    assert first_difference(setup_of(strategy, pools, chunk), SETTINGS[name]) is None


@pytest.mark.parametrize("family", ["sharegpt", "agents"])
@pytest.mark.parametrize("name", ["stock", "alpha 0"])
def test_real_conversations(name: str, family: str) -> None:
    setup = Setup(20_000, 40, 8, 512, strategy="extra_buffer", overlap=True, track_chunk=64)
    requests = islice(conversations.load(family), 100)
    assert first_difference(setup, SETTINGS[name], requests) is None


# Negative controls: what is compared happens, and a simulator that is wrong in one point is found out.

TIGHT = setup_of("extra_buffer", POOLS[1], 21)


def test_several_requests_run_at_a_time_and_evict() -> None:
    stepper = Stepper(TIGHT, SETTINGS["alpha 0"])
    assert first_difference(TIGHT, SETTINGS["alpha 0"], stepper=stepper) is None
    assert stepper.most_decoding == TIGHT.running
    assert stepper.server.simulator.first_eviction


def test_another_headroom_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "HEADROOM", 2)
    assert first_difference(TIGHT, SETTINGS["alpha 0"]) is not None


def test_kv_slots_that_are_not_kept_free_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "MOST_RESERVED", 2)
    assert first_difference(replace(TIGHT, kv_tokens=400), SETTINGS["alpha 0"]) is not None


def test_prompts_that_do_not_wait_for_one_that_is_cut_are_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first_chunk = batching._Budget.end_of_first_chunk
    monkeypatch.setattr(
        batching._Budget,
        "end_of_first_chunk",
        lambda budget, request, running, another_is_cut: (
            None if another_is_cut else first_chunk(budget, request, running, False)
        ),
    )
    assert first_difference(TIGHT, SETTINGS["alpha 0"]) is not None


def test_states_that_are_not_on_probation_are_found_out() -> None:
    stepper = Stepper(TIGHT, SETTINGS["alpha 0"])
    stepper.server.simulator.policy = policy_of(SETTINGS["alpha 0"])
    assert first_difference(TIGHT, SETTINGS["alpha 0"], stepper=stepper) is not None
