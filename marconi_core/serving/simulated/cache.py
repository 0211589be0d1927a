"""The prefix cache that a server with given flags has, as the simulator predicts it."""

from typing import Protocol

from numpy.typing import ArrayLike

from marconi_core.models.cost import CostModel
from marconi_core.sim.server import (
    STOCK,
    PoolSizes,
    ServerPolicy,
    ServerSimulator,
    Strategy,
    server_simulator,
)
from marconi_core.sim.server.tuning import Following, OnlineTuner


class Cache(Protocol):
    """Serves one request after the other."""

    def hit(self, prompt: ArrayLike, output: ArrayLike) -> int:
        """Serve a request; return its cached tokens."""

    def flush(self) -> None:
        """Forget everything."""


class NoCache:
    """`--disable-radix-cache`."""

    def hit(self, prompt: ArrayLike, output: ArrayLike) -> int:
        """Serve a request; nothing is cached."""
        return 0

    def flush(self) -> None:
        """There is nothing to forget."""


class FixedCache:
    """A policy that stays as it is."""

    def __init__(self, simulator: ServerSimulator) -> None:
        self._simulator = simulator

    def hit(self, prompt: ArrayLike, output: ArrayLike) -> int:
        """Serve a request; return its cached tokens."""
        return self._simulator.serve(prompt, output).hit

    def flush(self) -> None:
        """Forget everything."""
        self._simulator.flush()


class TunedCache:
    """Marconi with alpha tuned online."""

    def __init__(self, following: Following) -> None:
        self._following = following
        self.flush()

    def hit(self, prompt: ArrayLike, output: ArrayLike) -> int:
        """Serve a request; return its cached tokens."""
        return self._tuner.observe(prompt, output)

    def flush(self) -> None:
        """Forget everything, the windows of tuning too."""
        self._tuner = OnlineTuner(self._following)


def cache_for(
    sizes: PoolSizes,
    costs: CostModel,
    strategy: Strategy,
    chunk: int | None,
    policy: ServerPolicy = STOCK,
    tuned: bool = False,
) -> Cache:
    """Return the prefix cache of a server.

    Args:
        strategy, chunk: see `server_simulator`.
        policy: `STOCK`, or what the plug-in does.
        tuned: whether alpha is tuned online.

    Raises:
        PolicyError: the pools are too small for this server.
    """
    if tuned:
        return TunedCache(Following(sizes, policy, costs, chunk, strategy=strategy))
    return FixedCache(server_simulator(strategy, sizes, policy, costs, chunk))
