"""Which results depend on the model: the grid again for other hybrids, as formulas and as served.

The sizes of caches are those of the configuration, in bytes (`bytes`); or they are scaled per trace
so that they hold the same share of what the trace puts into an unlimited cache of states and KVs as
they do for the paper's model (`share`). In the second, models differ only by what a state is worth
in tokens, and by their FLOPs.
"""

import pandas as pd

from marconi_core.experiments.base import Experiment, Setting
from marconi_core.models import MODELS, load_hybrid_model
from marconi_core.models.cost import CostModel
from marconi_core.models.paper import Geometry, cost_model
from marconi_core.policies.corrections import Corrections
from marconi_core.sim.simulation import Simulator
from marconi_core.traces.arrivals import Arrivals
from marconi_core.traces.trace import Trace

REFERENCE = "paper_7b"
FORMULAS = {REFERENCE: REFERENCE, "nemotron_h_8b_formulas": "nemotron_h_8b"}
"""Models by their five numbers."""

SERVED = (
    "jamba_1_5_mini",
    "falcon_h1_7b",
    "qwen3_next_80b_a3b",
    "nemotron_h_8b",
    "granite_4_h_small",
)
"""Models by their real layers, those first whose states are worth the fewest tokens."""

POLICIES = ("vllm_plus", "sglang_plus", "oracle", "marconi")  # a tuner reuses static alphas

COMPARABLE = Corrections(mlp_of_parent=True, whole_edges=True, capacity=True)
"""Real layers do not have the formulas' quirk, and large states overrun a cache many times."""

ENDLESS = 1e18
"""Bytes of a cache from which nothing is evicted."""


def models() -> dict[str, Geometry | CostModel]:
    """Return what is simulated, by the names of the rows."""
    formulas = {name: MODELS[model] for name, model in FORMULAS.items()}
    return formulas | {name: load_hybrid_model(name) for name in SERVED}


def compare(setting: Setting, arrivals: tuple[Arrivals, ...]) -> pd.DataFrame:
    """Return one row per trace, capacity, model, scale and policy.

    `capacity_bytes` is the configured one, `cache_bytes` what the cache had. Of policies with a
    static alpha the best one counts.
    """
    rows = []
    for process in arrivals:
        trace = setting.trace(process)
        reference = _unlimited(trace, MODELS[REFERENCE])
        for name, model in models().items():
            simulator = Simulator(trace, model, setting.alphas, COMPARABLE)
            costs = cost_model(model)
            scale = _unlimited(trace, model) / reference
            for capacity in setting.capacities:
                sizes = {"bytes": capacity, "share": capacity * scale}
                rates = {size: _rates(simulator, size, setting) for size in set(sizes.values())}
                for kind, size in sizes.items():
                    rows += [
                        {
                            "trace": process.label,
                            "capacity_bytes": capacity,
                            "model": name,
                            "state_bytes": costs.state_bytes,
                            "kv_bytes_per_token": costs.kv_bytes_per_token,
                            "scale": kind,
                            "cache_bytes": size,
                            "policy": policy,
                            "token_hit_rate": rate,
                        }
                        for policy, rate in rates[size].items()
                    ]
    return pd.DataFrame(rows)


def _unlimited(trace: Trace, model: Geometry | CostModel) -> int:
    """Return the bytes of the states and KVs that judicious admission keeps of a whole trace."""
    return Simulator(trace, model).run("sglang_plus", ENDLESS).peak_bytes


def _rates(simulator: Simulator, capacity: float, setting: Setting) -> dict[str, float]:
    return {
        policy: setting.best_run(simulator, policy, capacity).token_hit_rate for policy in POLICIES
    }


GEOMETRY = Experiment("geometry", None, compare)
