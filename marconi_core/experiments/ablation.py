"""What each quirk of the paper's simulator is worth: the grid again, with corrections."""

import pandas as pd

from marconi_core.experiments.base import Experiment, Setting
from marconi_core.policies import COMPARED
from marconi_core.policies.corrections import CORRECTED, FORMULAS, PAPER, Corrections
from marconi_core.sim.simulation import Simulator
from marconi_core.traces.arrivals import Arrivals

VARIANTS: dict[str, Corrections] = {
    "paper": PAPER,
    **{field: Corrections(**{field: True}) for field in Corrections._fields},
    "formulas": FORMULAS,
    "everything": CORRECTED,
}


def ablate(setting: Setting, arrivals: tuple[Arrivals, ...]) -> pd.DataFrame:
    """Return one row per trace, capacity, variant and policy."""
    rows = []
    for process in arrivals:
        trace = setting.trace(process)
        for name, corrections in VARIANTS.items():
            simulator = Simulator(trace, setting.model, setting.alphas, corrections)
            for capacity in setting.capacities:
                for policy in COMPARED:
                    run = simulator.run(
                        policy, capacity, bootstrap_multiplier=setting.bootstrap_multiplier
                    )
                    rows.append(
                        {
                            "trace": process.label,
                            "capacity_bytes": capacity,
                            "corrected": name,
                            "policy": policy,
                            "alpha": run.alpha,
                            "token_hit_rate": run.token_hit_rate,
                            "peak_bytes": run.peak_bytes,
                        }
                    )
    return pd.DataFrame(rows)


ABLATION = Experiment("ablation", None, ablate)
