"""A server against its simulator: each hit, the tree after it, and what is left in the pools."""

from collections.abc import Iterable, Sequence

from marconi_core.sim.server import STOCK, ServerPolicy, ServerSimulator
from marconi_core.sim.server.settings import MarconiSettings
from tests.sglang_cpu.server import CpuServer, outline_of


def policy_of(settings: MarconiSettings | None) -> ServerPolicy:
    """Return what the simulator calls these settings; None is SGLang's own cache."""
    return STOCK if settings is None else settings.policy(concurrent=False)


def same(real: CpuServer, simulator: ServerSimulator) -> bool:
    """Tell whether both have the same in their caches, and the same left in their pools."""
    return (
        real.outline() == outline_of(simulator._tree.root)
        and real.kvs.available_size() == simulator.free_tokens
        and real.state_slots.available_size() == simulator.free_states
    )


def first_difference(
    real: CpuServer,
    simulator: ServerSimulator,
    requests: Iterable[tuple[Sequence[int], Sequence[int]]],
) -> int | None:
    """Serve a workload on both; return the request after which they differ."""
    for number, (prompt, output) in enumerate(requests):
        hit = simulator.serve(prompt, output).hit
        if real.serve(prompt, output) != hit or not same(real, simulator):
            return number
    real.check()
    return None
