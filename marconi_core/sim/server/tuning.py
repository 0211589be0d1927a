"""Online tuning of alpha for a server: follow it with a simulator, and judge other alphas beside it.

There are two ways to judge: `FollowLeader`, the default, and `ReplayWindows`, the paper's.
"""

from dataclasses import dataclass, field

from numpy.typing import ArrayLike

from marconi_core.errors import PolicyError
from marconi_core.models.cost import CostModel
from marconi_core.sim.server.engine import PoolSizes
from marconi_core.sim.server.judging import Tuning
from marconi_core.sim.server.leader import FollowLeader
from marconi_core.sim.server.policy import ServerPolicy
from marconi_core.sim.server.strategy import Strategy, server_simulator
from marconi_core.sim.server.windows import ReplayWindows


@dataclass(frozen=True)
class Following:
    """What a tuner has to know of the server that it follows.

    Attributes:
        sizes, policy, costs, chunk: as of `ServerSimulator`; the policy's alpha is the first one.
        strategy: the server's.
        method: how alphas are judged.

    Raises:
        PolicyError: the policy has no alpha.
    """

    sizes: PoolSizes
    policy: ServerPolicy
    costs: CostModel
    chunk: int | None = None
    strategy: Strategy = "no_buffer"
    method: FollowLeader | ReplayWindows = field(default_factory=FollowLeader)

    def __post_init__(self) -> None:
        if self.policy.eviction is None or self.policy.eviction.objective == "lru":
            raise PolicyError("a policy that evicts by recency alone has no alpha to tune")


class OnlineTuner:
    """Follows a server request by request.

    Attributes:
        simulator: predicts the server; its alpha is the current one.
        history: all tunings so far.
    """

    def __init__(self, following: Following) -> None:
        self.history: list[Tuning] = []
        self.simulator = server_simulator(
            following.strategy,
            following.sizes,
            following.policy,
            following.costs,
            following.chunk,
        )
        self._judge = following.method.begin(self.simulator, following.costs)

    @property
    def alpha(self) -> float:
        return self.simulator.alpha

    def observe(self, prompt: ArrayLike, output: ArrayLike, alpha: float | None = None) -> int:
        """Follow one finished request; change alpha if another one is better now.

        Args:
            alpha: the server's at that time, if it is behind with taking the one chosen.

        Returns:
            The hit that the simulator gives it.

        Raises:
            PolicyError: the server cannot have served the request; it is ignored.
        """
        chosen = self.alpha
        self.simulator.set_alpha(chosen if alpha is None else alpha)
        try:
            hit = self.simulator.serve(prompt, output).hit
        finally:
            self.simulator.set_alpha(chosen)
        tuning = self._judge.observe(self.simulator, prompt, output)
        if tuning is not None:
            self.simulator.set_alpha(tuning.alpha)
            self.history.append(tuning)
        return hit
