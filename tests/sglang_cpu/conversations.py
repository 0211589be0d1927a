"""The first requests of real conversations on a server and its simulator."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from marconi_core.sim.server import PoolSizes, Strategy, server_simulator
from marconi_core.sim.server.tuning import Following, OnlineTuner
from marconi_core.traces.trace import Trace
from tests.sglang_cpu.equality import first_difference, policy_of, same
from tests.sglang_cpu.server import CpuServer
from tests.sglang_cpu.workloads import COSTS, Request

FOLDER = Path(__file__).parents[2] / ".venv-sglang" / "conversations"
POOLS = ((8_000, 12), (60_000, 120))
MOST_PROMPT, MOST_OUTPUT = 3_000, 16
"""Tokens after which prompts and outputs are cut: each decoded token costs a scheduler's step."""


def trace(family: str) -> Trace:
    """Return the requests in the order of arrival."""
    file = FOLDER / f"{family}.npz"
    if not file.is_file():
        note = file.with_suffix(".txt")
        pytest.skip(note.read_text() if note.is_file() else f"{file} is made by `make test-patch`")
    return Trace.load(file)


def load(family: str) -> Iterator[Request]:
    """Yield prompts and outputs in the order of arrival, cut."""
    requests = trace(family)
    return (
        (
            requests.input_tokens(i)[:MOST_PROMPT].tolist(),
            requests.output_tokens(i)[:MOST_OUTPUT].tolist(),
        )
        for i in range(len(requests))
    )


def follow(real: CpuServer, strategy: Strategy, family: str, tuned: bool) -> None:
    """Serve a family's conversations on server and simulator, which must not differ anywhere.

    Args:
        real: a server that has served nothing.
        strategy: the server's.
        tuned: tune alpha, at the same requests on both; if not, it stays as it is.
    """
    setup = real.setup
    sizes = PoolSizes(setup.kv_tokens, setup.states)
    policy = policy_of(getattr(real.cache, "settings", None))
    if not tuned:
        twin = server_simulator(strategy, sizes, policy, COSTS, setup.chunk)
        assert first_difference(real, twin, load(family)) is None
        return
    tuner = OnlineTuner(Following(sizes, policy, COSTS, setup.chunk, strategy))
    for prompt, output in load(family):
        tunings = len(tuner.history)
        assert real.serve(prompt, output) == tuner.observe(prompt, output)
        assert same(real, tuner.simulator)
        if len(tuner.history) > tunings:
            real.cache.two_pool.configure(tuner.simulator.policy.eviction)
    real.check()
    # with more room, alpha 0 may be the best throughout
    assert tuner.history or setup.kv_tokens > POOLS[0][0]


def each_case(function: Callable[..., None]) -> Callable[..., None]:
    """Run a test for each family of conversations, policy and size of the pools."""
    for names, values in {
        "pools": POOLS,
        "name": ("stock", "alpha 0", "tuned"),
        "family": ("sharegpt", "agents"),
    }.items():
        function = pytest.mark.parametrize(names, values, ids=str)(function)
    return function
