"""Tuning by replaying windows, as the paper does.

Alpha stays as it is until the cache first evicts. The requests from then on are recorded, and when
the window is full it is replayed under each alpha of a grid, from the cache as it was at the window's
start. Unlike the paper's simulator, which tunes once, the next window then begins, so that alpha
follows the workload.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from marconi_core.errors import PolicyError
from marconi_core.models.cost import CostModel
from marconi_core.policies.tuner import ALPHA_GRID
from marconi_core.sim.server.engine import ServerSimulator
from marconi_core.sim.server.judging import Tuning, best
from marconi_core.sim.server.tree import Tokens


@dataclass(frozen=True)
class ReplayWindows:
    """Settings of this way of tuning.

    Attributes:
        window: requests of the first window; None for `multiplier` times the requests seen at the
            first eviction.
        interval: requests of each window after the first.
        alphas: the grid.
        most_tokens: a window is cut short when it holds this many tokens, so that memory is bounded.

    Raises:
        PolicyError: no alphas, or a window without requests.
    """

    window: int | None = None
    multiplier: int = 5
    interval: int = 500
    alphas: tuple[float, ...] = ALPHA_GRID
    most_tokens: int = 20_000_000

    def __post_init__(self) -> None:
        if not self.alphas:
            raise PolicyError("there is no alpha to choose")
        for name in ("window", "multiplier", "interval"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise PolicyError(f"the tuner's {name} is {value}; it must be at least 1")

    def begin(self, server: ServerSimulator, costs: CostModel) -> "Windows":
        """Start beside a server."""
        return Windows(self, costs)


@dataclass
class _Window:
    """Requests since a moment, and the cache at that moment."""

    start: ServerSimulator
    length: int
    requests: list[tuple[Tokens, Tokens]] = field(default_factory=list)
    tokens: int = 0


class Windows:
    """The window that is being recorded."""

    def __init__(self, settings: ReplayWindows, costs: CostModel) -> None:
        self._settings, self._costs = settings, costs
        self._window: _Window | None = None

    def observe(
        self, server: ServerSimulator, prompt: ArrayLike, output: ArrayLike
    ) -> Tuning | None:
        """Record the request that the server has just served; if the window is full, choose.

        Scores are the FLOPs that the window's hits save.
        """
        if self._window is None:
            if first := server.first_eviction:
                settings = self._settings
                self._window = _Window(
                    server.copy(), settings.window or settings.multiplier * first
                )
            return None
        prompt, output = np.array(prompt, np.int64), np.array(output, np.int64)
        self._window.requests.append((prompt, output))
        self._window.tokens += len(prompt) + len(output)
        full = len(self._window.requests) >= self._window.length
        if not full and self._window.tokens < self._settings.most_tokens:
            return None
        scores = {alpha: self._score(self._window, alpha) for alpha in self._settings.alphas}
        self._window = _Window(server.copy(), self._settings.interval)
        return Tuning(server.served, best(scores, server.alpha), scores)

    def _score(self, window: _Window, alpha: float) -> float:
        simulator = window.start.copy()
        simulator.set_alpha(alpha)
        hits = [simulator.serve(prompt, output).hit for prompt, output in window.requests]
        return sum(self._costs.flops(hit) for hit in hits)
