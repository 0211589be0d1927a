"""Online tuning of alpha for a server: follow it with a simulator, replay windows of its requests.

As in the paper, alpha is 0 until the cache first evicts; the requests from then on are recorded, and
when the window is full it is replayed under each alpha of a grid, from the cache as it was at the
window's start. Unlike the paper's simulator, which tunes once, the next window then begins, so that
alpha follows the workload.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike

from marconi_core.errors import PolicyError
from marconi_core.models.cost import CostModel
from marconi_core.policies.tuner import ALPHA_GRID
from marconi_core.sim.server.engine import PoolSizes, ServerSimulator
from marconi_core.sim.server.policy import ServerPolicy
from marconi_core.sim.server.tree import Tokens


@dataclass(frozen=True)
class Following:
    """What a tuner has to know of the server that it follows.

    Attributes:
        sizes, policy, costs, chunk: as of `ServerSimulator`; the policy's alpha is the first one.
        window: requests of the first window; None for `multiplier` times the requests seen at the
            first eviction.
        interval: requests of each window after the first.
        alphas: the grid.
        most_tokens: a window is cut short when it holds this many tokens, so that memory is bounded.

    Raises:
        PolicyError: the policy has no alpha.
    """

    sizes: PoolSizes
    policy: ServerPolicy
    costs: CostModel
    chunk: int | None = None
    window: int | None = None
    multiplier: int = 5
    interval: int = 500
    alphas: tuple[float, ...] = ALPHA_GRID
    most_tokens: int = 20_000_000

    def __post_init__(self) -> None:
        if self.policy.eviction is None or self.policy.eviction.objective == "lru":
            raise PolicyError("a policy that evicts by recency alone has no alpha to tune")


@dataclass(frozen=True)
class WindowScores:
    """One tuning.

    Attributes:
        request: requests seen so far.
        alpha: chosen.
        scores: FLOPs that the window's hits save under each alpha.
    """

    request: int
    alpha: float
    scores: Mapping[float, int]


@dataclass
class _Window:
    """Requests since a moment, and the cache at that moment."""

    start: ServerSimulator
    length: int
    requests: list[tuple[Tokens, Tokens]] = field(default_factory=list)
    tokens: int = 0


class OnlineTuner:
    """Follows a server request by request.

    Attributes:
        simulator: predicts the server; its alpha is the current one.
        history: all tunings so far.
    """

    def __init__(self, following: Following) -> None:
        self._following = following
        self.history: list[WindowScores] = []
        self.simulator = ServerSimulator(
            following.sizes, following.policy, following.costs, following.chunk
        )
        self._window: _Window | None = None

    @property
    def alpha(self) -> float:
        assert self.simulator.policy.eviction is not None
        return self.simulator.policy.eviction.alpha

    def observe(self, prompt: ArrayLike, output: ArrayLike) -> int:
        """Follow one finished request; tune if that fills the window.

        Returns:
            The hit that the simulator gives it.

        Raises:
            PolicyError: the server cannot have served the request; it is ignored.
        """
        prompt, output = np.array(prompt, np.int64), np.array(output, np.int64)
        hit = self.simulator.serve(prompt, output).hit
        if self._window is not None:
            self._window.requests.append((prompt, output))
            self._window.tokens += len(prompt) + len(output)
            full = len(self._window.requests) >= self._window.length
            if full or self._window.tokens >= self._following.most_tokens:
                self._tune(self._window)
                self._window = self._begin(self._following.interval)
        elif first := self.simulator.first_eviction:
            self._window = self._begin(self._following.window or self._following.multiplier * first)
        return hit

    def _begin(self, length: int) -> _Window:
        return _Window(self.simulator.copy(), length)

    def _tune(self, window: _Window) -> None:
        scores = {alpha: self._score(window, alpha) for alpha in self._following.alphas}
        alpha = choose(scores, self.alpha)
        set_alpha(self.simulator, alpha)
        self.history.append(WindowScores(self.simulator.served, alpha, scores))

    def _score(self, window: _Window, alpha: float) -> int:
        simulator = window.start.copy()
        set_alpha(simulator, alpha)
        hits = [simulator.serve(prompt, output).hit for prompt, output in window.requests]
        return sum(self._following.costs.flops(hit) for hit in hits)


def choose(scores: Mapping[float, int], current: float) -> float:
    """Return the alpha with the highest score; of equals the current one, else the smallest."""
    best = max(scores.values())
    equals: Sequence[float] = [alpha for alpha in sorted(scores) if scores[alpha] == best]
    return current if current in equals else equals[0]


def set_alpha(simulator: ServerSimulator, alpha: float) -> None:
    """Change alpha and nothing else."""
    assert simulator.policy.eviction is not None
    simulator.configure(replace(simulator.policy.eviction, alpha=alpha))
