"""How far each policy is from what any cache of its size could do."""

import pandas as pd

from marconi_core.experiments.base import Experiment, Setting
from marconi_core.policies import POLICIES
from marconi_core.policies.corrections import Corrections
from marconi_core.policies.flop_aware import costs
from marconi_core.sim.bound import bounds, chances
from marconi_core.sim.simulation import Simulator
from marconi_core.traces.arrivals import Arrivals

WITHIN_CAPACITY = Corrections(whole_edges=True, capacity=True)
"""The bound holds for caches that keep to their size and have no false hits."""


def regret(setting: Setting, arrivals: tuple[Arrivals, ...]) -> pd.DataFrame:
    """Return one row per trace, capacity and policy or bound: token hit rate.

    Of policies with a static alpha the best one counts. Rows named `unlimited`, `upper` and
    `schedule` are those of `sim.bound.Bounds`.
    """
    rows = []
    for process in arrivals:
        trace = setting.trace(process)
        found, known = chances(trace), costs(setting.model)
        simulator = Simulator(trace, setting.model, setting.alphas, WITHIN_CAPACITY)
        prompt_tokens = int(trace.n_in.sum())
        for capacity in setting.capacities:
            served = bounds(trace, found, known, capacity)._asdict()
            for policy in sorted(POLICIES.values(), key=lambda policy: policy.alpha != "static"):
                best = setting.best_run(simulator, policy.name, capacity)
                served[policy.name] = best.skipped_tokens
            rows += [
                {
                    "trace": process.label,
                    "capacity_bytes": capacity,
                    "policy": name,
                    "token_hit_rate": tokens / prompt_tokens,
                }
                for name, tokens in served.items()
            ]
    return pd.DataFrame(rows)


REGRET = Experiment("regret", None, regret)
