"""What an experiment is, and what it works on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from marconi_core.models.paper import Geometry
from marconi_core.policies import get_policy
from marconi_core.sim.simulation import Simulation, Simulator
from marconi_core.traces.arrivals import Arrivals, PoissonArrivals, TypingArrivals
from marconi_core.traces.trace import Trace


@dataclass(frozen=True)
class Setting:
    """One data set, and how the configuration has it simulated.

    Attributes:
        trace: returns the data set's requests in the order of an arrival process.
        alphas: those that the tuner tries.
        capacities: bytes.
    """

    trace: Callable[[Arrivals], Trace]
    model: Geometry
    alphas: Sequence[float]
    bootstrap_multiplier: int
    capacities: Sequence[float]

    def best_run(self, simulator: Simulator, policy: str, capacity: float) -> Simulation:
        """Return a policy's simulation; of those with static alphas, the one that serves the most tokens."""
        alphas = self.alphas if get_policy(policy).alpha == "static" else (None,)
        runs = (
            simulator.run(
                policy, capacity, alpha=alpha, bootstrap_multiplier=self.bootstrap_multiplier
            )
            for alpha in alphas
        )
        return max(runs, key=lambda run: run.skipped_tokens)


@dataclass(frozen=True)
class Experiment:
    """A table computed from one data set.

    Attributes:
        name: of its files, and of the figure that shows it.
        arrivals: by the paper's data set on which, or on a stand-in for which, the experiment is
            run, the arrival processes that it needs; None for all configured ones of any data set.
        run: returns the rows, without a column for the data set.
    """

    name: str
    arrivals: Mapping[str, tuple[Arrivals, ...]] | None
    run: Callable[[Setting, tuple[Arrivals, ...]], pd.DataFrame]


def typing(sessions_per_second: float) -> TypingArrivals:
    """Return the paper's arrivals of people."""
    return TypingArrivals(sessions_per_second=sessions_per_second)


def poisson(sessions_per_second: float, mean_response_time: float) -> PoissonArrivals:
    """Return the paper's arrivals of agents."""
    return PoissonArrivals(
        sessions_per_second=sessions_per_second, mean_response_time=mean_response_time
    )
