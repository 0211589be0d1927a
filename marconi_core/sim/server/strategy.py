"""Which simulator stands for a server: a matter of its release and `--mamba-radix-cache-strategy`."""

from typing import Literal, get_args

from marconi_core.errors import PolicyError
from marconi_core.models.cost import CostModel
from marconi_core.sim.server.engine import PoolSizes, ServerSimulator
from marconi_core.sim.server.legacy import LegacyServerSimulator
from marconi_core.sim.server.overlap import (
    OverlapServerSimulator,
    TrackGrid,
    TrackingServerSimulator,
)
from marconi_core.sim.server.policy import STOCK, ServerPolicy

Strategy = Literal["no_buffer", "extra_buffer", "0.5.6.post2"]
"""SGLang 0.5.16's: without overlap scheduling, or with it (the default); or the release with but one."""


def server_simulator(
    strategy: Strategy,
    sizes: PoolSizes,
    policy: ServerPolicy = STOCK,
    costs: CostModel | None = None,
    chunk: int | None = None,
    grid: TrackGrid | None = None,
) -> ServerSimulator:
    """Return the simulator of an SGLang server; `STOCK` is one without the plug-in.

    Args:
        grid: of stock SGLang under `extra_buffer`; the others have none.
        sizes, policy, costs, chunk: see `ServerSimulator`.

    Raises:
        PolicyError: an unknown strategy; or as `ServerSimulator`.
    """
    simulator = _simulator(strategy, policy)
    if issubclass(simulator, TrackingServerSimulator):
        return simulator(sizes, policy, costs, chunk, grid)
    return simulator(sizes, policy, costs, chunk)


def most_running(strategy: Strategy, states: int, policy: ServerPolicy = STOCK) -> int:
    """Return how many requests a server lets run at a time, for the size of its pool of states.

    Raises:
        PolicyError: an unknown strategy.
    """
    return states // _simulator(strategy, policy).states_per_request


def _simulator(strategy: Strategy, policy: ServerPolicy) -> type[ServerSimulator]:
    if strategy == "no_buffer":
        return ServerSimulator
    if strategy == "0.5.6.post2":
        return LegacyServerSimulator
    if strategy != "extra_buffer":
        raise PolicyError(
            f"unknown strategy '{strategy}'; choose one of: {', '.join(get_args(Strategy))}"
        )
    return TrackingServerSimulator if policy == STOCK else OverlapServerSimulator
