"""Tables with a row a request: lengths (Figure 6), and two policies request by request (Figure 10)."""

import numpy as np
import pandas as pd

from marconi_core.experiments.base import Experiment, Setting, poisson, typing
from marconi_core.models.paper import flops_saved
from marconi_core.sim.simulation import Simulator
from marconi_core.traces.arrivals import Arrivals

CONTENDED = poisson(10, 7.5)
CAPACITY = 8e10
POLICIES = ("sglang_plus", "marconi")


def lengths(setting: Setting, arrivals: tuple[Arrivals, ...]) -> pd.DataFrame:
    """Return the tokens of each prompt and output."""
    trace = setting.trace(arrivals[0])
    return pd.DataFrame({"input_tokens": trace.n_in, "output_tokens": trace.n_out})


def request_by_request(setting: Setting, arrivals: tuple[Arrivals, ...]) -> pd.DataFrame:
    """Return prompt tokens, and tokens served from the cache by policy, with FLOPs saved in all."""
    trace = setting.trace(arrivals[0])
    simulator = Simulator(trace, setting.model, setting.alphas)
    frames = []
    for policy in POLICIES:
        run = simulator.run(policy, CAPACITY, bootstrap_multiplier=setting.bootstrap_multiplier)
        frames.append(
            pd.DataFrame(
                {
                    "policy": policy,
                    "request": np.arange(len(trace)),
                    "input_tokens": trace.n_in,
                    "skipped_tokens": run.skipped,
                    "flops_saved_in_all": float(
                        flops_saved(setting.model, run.skipped.tolist()).total
                    ),
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


LENGTHS = Experiment(
    "fig6",
    {"lmsys": (typing(1),), "sharegpt": (typing(5),), "swebench": (poisson(0.25, 5),)},
    lengths,
)
BY_LENGTH = Experiment("fig10", {"swebench": (CONTENDED,)}, request_by_request)
