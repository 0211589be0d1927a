"""From the configuration's point of view: one trace of the study, and the grid simulated on it."""

import os
from typing import Any

from marconi_core.config import Config
from marconi_core.traces.trace import Trace, Workload


def load_trace(config: Config, name: str, path: str | os.PathLike[str]) -> Trace:
    """Return a trace of the configuration in replay order.

    Args:
        name: the trace's name.
        path: the compiled file: of the whole data set, or, where the data set has `trace_dir`, of
            this trace.
    """
    spec = config.trace(name)
    if config.datasets[spec.dataset].trace_dir is not None:
        return Trace.load(path)
    workload = Workload.load(path)
    return workload.schedule(spec.arrivals.timestamps(workload))


def grid(config: Config, name: str) -> dict[str, Any]:
    """Return what `marconi_core.sim.sweep` is asked for on a trace, as plain keyword arguments."""
    dataset = config.datasets[config.trace(name).dataset]
    return {
        "capacities": list(dataset.capacities_bytes),
        "policies": list(config.policies),
        "alphas": list(config.alphas),
        "bootstrap_multiplier": dataset.bootstrap_multiplier,
        "model_name": config.model,
        "labels": labels(config, name),
    }


def labels(config: Config, name: str) -> dict[str, Any]:
    """Return what result rows say of a trace."""
    spec = config.trace(name)
    arrivals = spec.arrivals.model_dump()
    nothing = float("nan")
    return {
        "dataset": spec.dataset,
        "trace": spec.name,
        "sps": arrivals.get("sessions_per_second", nothing),
        "art": arrivals.get("mean_response_time", nothing),
        "sessions": config.datasets[spec.dataset].sessions,
        "seed": arrivals.get("seed", nothing),
    }


def title(config: Config, name: str) -> str:
    """Return what a figure of one trace is called, with what has to be said of its data."""
    caveat = config.datasets[config.trace(name).dataset].caveat
    return f"{name} ({caveat})" if caveat else name
