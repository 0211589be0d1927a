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
    if strategy == "no_buffer":
        return ServerSimulator(sizes, policy, costs, chunk)
    if strategy == "0.5.6.post2":
        return LegacyServerSimulator(sizes, policy, costs, chunk)
    if strategy != "extra_buffer":
        raise PolicyError(
            f"unknown strategy '{strategy}'; choose one of: {', '.join(get_args(Strategy))}"
        )
    if policy == STOCK:
        return TrackingServerSimulator(sizes, policy, costs, chunk, grid)
    return OverlapServerSimulator(sizes, policy, costs, chunk)
