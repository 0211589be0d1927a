"""A release's server and its simulator on random requests: what must hold for each release."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from marconi_core.sim.server import PoolSizes, ServerPolicy, ServerSimulator
from marconi_core.sim.server.settings import MarconiSettings
from tests.sglang_cpu import equality
from tests.sglang_cpu.equality import policy_of
from tests.sglang_cpu.server import CpuServer
from tests.sglang_cpu.workloads import COSTS, SETTINGS, random_requests

POOLS = ((300, 8), (200, 30), (2000, 8), (150, 3))
CHUNKS = (None, 16)
SEEDS = (0, 1)


@dataclass(frozen=True)
class Pair:
    """What a release's servers are made of; its test module has one as the fixture `pair`.

    Attributes:
        server: makes one of setup, settings and whether running requests find each other.
        setup: makes the setup of a server.
        simulator: stands for the release.
        requests: in a workload.
    """

    server: Callable[..., CpuServer]
    setup: Callable[..., Any]
    simulator: type[ServerSimulator]
    requests: int

    @property
    def compared(self) -> int:
        """Requests that the tests below compare, without those on probation."""
        return len(SETTINGS) * len(CHUNKS) * len(POOLS) * len(SEEDS) * self.requests

    def first_difference(
        self,
        setup: Any,
        settings: MarconiSettings | None,
        seed: int,
        simulated: ServerPolicy | None = None,
        concurrent: bool = False,
    ) -> int | None:
        """Serve a workload on both; return the request after which they differ."""
        twin = self.simulator(
            PoolSizes(setup.kv_tokens, setup.states),
            simulated or policy_of(settings),
            COSTS,
            setup.chunk,
        )
        requests = random_requests(seed, self.requests)
        real = self.server(setup, settings, concurrent)
        return equality.first_difference(real, twin, requests)


@pytest.mark.parametrize("pools", POOLS, ids=str)
@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize("name", SETTINGS)
def test_the_simulator_predicts_every_hit_and_the_whole_tree(
    pair: Pair, name: str, chunk: int | None, pools: tuple[int, int]
) -> None:
    for seed in SEEDS:
        setup = pair.setup(*pools, chunk=chunk)
        assert pair.first_difference(setup, SETTINGS[name], seed) is None


@pytest.mark.parametrize("pools", POOLS, ids=str)
@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize("name", ["admission only", "alpha 1"])
def test_states_on_probation(
    pair: Pair, name: str, chunk: int | None, pools: tuple[int, int]
) -> None:
    """A server for several requests at a time, which come one by one all the same."""
    simulated = replace(policy_of(SETTINGS[name]), probation=True)
    setup = pair.setup(*pools, chunk=chunk)
    assert pair.first_difference(setup, SETTINGS[name], 0, simulated, concurrent=True) is None
