"""The server simulator against SGLang's own classes under `extra_buffer` with overlap scheduling."""

from dataclasses import replace

import pytest

from marconi_core.sim.server import (
    OverlapServerSimulator,
    PoolSizes,
    ServerPolicy,
    ServerSimulator,
    TrackGrid,
    TrackingServerSimulator,
    engine,
    marconi,
    server_simulator,
)
from marconi_core.sim.server.engine import Running
from marconi_core.sim.server.leader import FollowLeader
from marconi_core.sim.server.settings import MarconiSettings
from marconi_core.sim.server.tree import Tokens
from marconi_core.sim.server.tuning import Following, OnlineTuner
from marconi_core.sim.server.windows import ReplayWindows
from tests.patch.cpu_server import Setup, WrongMemoryError
from tests.patch.faults import swap_buffers_once
from tests.patch.workloads import COSTS, SETTINGS, random_requests, server
from tests.sglang_cpu import conversations, equality
from tests.sglang_cpu.equality import policy_of
from tests.sglang_cpu.workloads import run_load

POOLS = ((300, 8), (200, 30), (2000, 8), (150, 5))
CHUNKS = (None, 16, 21)
GRIDS = ((8, 16), (5, 6))
MARCONI = ("admission only", "alpha 0", "alpha 1", "seglen")
REQUESTS = 220
MARCONI_REQUESTS = 110
OUTPUTS = 18  # long enough to cross track boundaries


def setup_of(
    pools: tuple[int, int], chunk: int | None = None, grid: tuple[int, int] = (8, 16), **more: int
) -> Setup:
    return Setup(
        *pools,
        chunk=chunk,
        strategy="extra_buffer",
        overlap=True,
        track_chunk=grid[0],
        track_every=grid[1],
        **more,
    )


def simulator_of(setup: Setup, policy: ServerPolicy) -> ServerSimulator:
    return server_simulator(
        "extra_buffer",
        PoolSizes(setup.kv_tokens, setup.states),
        policy,
        COSTS,
        setup.chunk,
        TrackGrid(setup.track_chunk, setup.track_every),
    )


def first_difference(
    setup: Setup,
    settings: MarconiSettings | None,
    seed: int = 0,
    simulated: ServerPolicy | None = None,
    concurrent: bool = False,
) -> int | None:
    """Serve a workload on both; return the request after which they differ."""
    count = REQUESTS if settings is None else MARCONI_REQUESTS
    return equality.first_difference(
        server(setup, settings, concurrent),
        simulator_of(setup, simulated or policy_of(settings)),
        random_requests(seed, count, outputs=OUTPUTS),
    )


@pytest.mark.parametrize("pools", POOLS, ids=str)
@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_stock(grid: tuple[int, int], chunk: int | None, pools: tuple[int, int]) -> None:
    assert first_difference(setup_of(pools, chunk, grid), None) is None


@pytest.mark.parametrize("pools", POOLS, ids=str)
@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize("name", MARCONI)
def test_marconi(name: str, chunk: int | None, pools: tuple[int, int]) -> None:
    assert first_difference(setup_of(pools, chunk), SETTINGS[name]) is None


@pytest.mark.parametrize("pools", POOLS, ids=str)
@pytest.mark.parametrize("chunk", CHUNKS)
def test_states_on_probation(chunk: int | None, pools: tuple[int, int]) -> None:
    """A server for several requests at a time, which come one by one all the same."""
    simulated = replace(policy_of(SETTINGS["alpha 1"]), probation=True)
    setup = setup_of(pools, chunk)
    assert first_difference(setup, SETTINGS["alpha 1"], 1, simulated, concurrent=True) is None


def test_enough_requests_are_compared() -> None:
    assert len(GRIDS) * len(CHUNKS) * len(POOLS) * REQUESTS >= 5_000
    assert len(MARCONI) * len(CHUNKS) * len(POOLS) * MARCONI_REQUESTS >= 5_000


@pytest.mark.parametrize("family", ["sharegpt", "agents"])
@pytest.mark.parametrize("name", ["stock", "alpha 0"])
@pytest.mark.parametrize("pools", conversations.POOLS[:2], ids=str)
def test_the_first_requests_of_real_conversations(
    pools: tuple[int, int], name: str, family: str
) -> None:
    setup = setup_of(pools, chunk=512, grid=(64, 32))
    real = server(setup, SETTINGS[name])
    simulator = simulator_of(setup, policy_of(SETTINGS[name]))
    assert equality.first_difference(real, simulator, conversations.load(family)) is None


@pytest.mark.parametrize("method", [FollowLeader(), ReplayWindows(40, interval=40)], ids=str)
def test_alpha_tuned_while_serving(method: FollowLeader | ReplayWindows) -> None:
    """The tuner follows the server under its own strategy."""
    setup = setup_of((300, 8), 21)
    real = server(setup, SETTINGS["alpha 0"])
    sizes = PoolSizes(setup.kv_tokens, setup.states)
    tuner = OnlineTuner(
        Following(sizes, marconi(branch_gain=1), COSTS, setup.chunk, "extra_buffer", method)
    )
    for prompt, output in random_requests(1, 200, outputs=OUTPUTS):
        assert real.serve(prompt, output) == tuner.observe(prompt, output)
        assert equality.same(real, tuner.simulator)
        real.cache.two_pool.configure(tuner.simulator.policy.eviction)
    assert any(tuning.alpha > 0 for tuning in tuner.history)


# Negative controls: a simulator that is wrong in one point is found out.

TIGHT = setup_of((300, 8), 21)


def test_a_server_without_overlap_is_found_out() -> None:
    for name in ("stock", "alpha 1"):
        settings = SETTINGS[name]
        simulator = ServerSimulator(PoolSizes(300, 8), policy_of(settings), COSTS, 21)
        requests = random_requests(0, REQUESTS, outputs=OUTPUTS)
        assert equality.first_difference(server(TIGHT, settings), simulator, requests) is not None


@pytest.mark.parametrize("grid", [(9, 16), (8, 17)], ids=str)
def test_another_grid_is_found_out(grid: tuple[int, int]) -> None:
    simulator = simulator_of(setup_of((300, 8), 21, grid), policy_of(None))
    requests = random_requests(0, REQUESTS, outputs=OUTPUTS)
    assert equality.first_difference(server(TIGHT, None), simulator, requests) is not None


def test_another_headroom_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "HEADROOM", 2)
    assert first_difference(TIGHT, SETTINGS["alpha 0"]) is not None


def test_a_slot_more_for_a_running_request_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OverlapServerSimulator, "slots_per_request", 2)
    assert first_difference(TIGHT, SETTINGS["alpha 0"]) is not None


def test_a_boundary_at_the_first_step_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stock SGLang misses it; a simulator that does not is wrong."""
    finish = TrackingServerSimulator.finish

    def seeing(self: TrackingServerSimulator, request: Running, sequence: Tokens) -> None:
        boundary = len(sequence) - len(sequence) % self.grid.interval
        if boundary == len(request.prompt) + 1:
            request.tracked = boundary
        finish(self, request, sequence)

    monkeypatch.setattr(TrackingServerSimulator, "finish", seeing)
    assert first_difference(TIGHT, None) is not None


def test_branch_points_that_are_not_tracked_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TrackingServerSimulator, "_branch", lambda self, match: None)
    assert first_difference(TIGHT, None) is not None


@pytest.mark.parametrize(("name", "other"), [("alpha 0", "alpha 1"), ("alpha 1", "seglen")])
def test_another_policy_is_found_out(name: str, other: str) -> None:
    assert first_difference(TIGHT, SETTINGS[name], 0, policy_of(SETTINGS[other])) is not None


# SGLang's fault with its two buffers needs a prefill between a boundary and the next step. One request
# at a time has none, so that the simulator stands for stock with the fault and for stock without it.


@pytest.mark.parametrize("chunk", CHUNKS)
def test_stock_with_its_fault_mended(chunk: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    swap_buffers_once(monkeypatch)
    assert first_difference(setup_of((300, 8), chunk), None) is None


def test_the_mended_fault_is_the_one_that_serves_wrong_states(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def serve() -> None:
        for seed in range(6):
            run_load(server(setup_of((710, 18), 32, running=4), None), seed)

    with pytest.raises(WrongMemoryError):
        serve()
    swap_buffers_once(monkeypatch)
    serve()
