"""From the configuration's point of view: which experiments a data set takes part in."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import pandas as pd

from marconi_core.config import Config
from marconi_core.experiments import EXPERIMENTS
from marconi_core.experiments.base import Setting
from marconi_core.models import load_model
from marconi_core.traces.arrivals import Arrivals
from marconi_core.traces.trace import Trace, Workload


def arrivals_of(config: Config, experiment: str, dataset: str) -> tuple[Arrivals, ...]:
    """Return the arrival processes that an experiment needs of a data set; none: leave it out.

    A data set of ready traces takes part if all those needed are among the configured ones.
    """
    chosen = config.datasets[dataset]
    by_dataset = EXPERIMENTS[experiment].arrivals
    if by_dataset is None:
        return tuple(chosen.arrivals.arrivals())
    needed = by_dataset.get(chosen.paper_dataset or "", ())
    if chosen.trace_dir is not None:
        configured = {spec.name for spec in config.traces([dataset])}
        if not configured.issuperset(trace_name(config, dataset, one) for one in needed):
            return ()
    return needed


def trace_name(config: Config, dataset: str, arrivals: Arrivals) -> str:
    """Return the name of a data set's trace, configured or not."""
    return f"{dataset}_{arrivals.label}_nums={config.datasets[dataset].sessions}"


def settings(config: Config, dataset: str) -> dict[str, Any]:
    """Return what the configuration says about an experiment's simulations, as plain values."""
    chosen = config.datasets[dataset]
    return {
        "model": config.model,
        "alphas": list(config.alphas),
        "bootstrap_multiplier": chosen.bootstrap_multiplier,
        "capacities": list(chosen.capacities_bytes),
        "arrivals": [arrivals.label for arrivals in chosen.arrivals.arrivals()],
    }


def run_experiment(
    config: Config, experiment: str, dataset: str, files: Mapping[str, str]
) -> pd.DataFrame:
    """Return an experiment's rows on a data set.

    Args:
        files: the compiled data set by its name; or, where the data set has `trace_dir`, the
            compiled traces by theirs.
    """
    chosen = config.datasets[dataset]

    @cache
    def trace(arrivals: Arrivals) -> Trace:
        if chosen.trace_dir is not None:
            return Trace.load(files[trace_name(config, dataset, arrivals)])
        workload = Workload.load(files[dataset])
        return workload.schedule(arrivals.timestamps(workload))

    setting = Setting(
        trace,
        load_model(config.model),
        config.alphas,
        chosen.bootstrap_multiplier,
        chosen.capacities_bytes,
    )
    rows = EXPERIMENTS[experiment].run(setting, arrivals_of(config, experiment, dataset))
    return rows.assign(dataset=dataset)
