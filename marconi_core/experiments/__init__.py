"""Simulations beside the configured grid: the paper's figures with one trace, and studies of our own.

An experiment takes one data set's traces and returns a tidy table. `EXPERIMENTS` has all of them by
name; the workflow runs those of `FIGURES` on the data sets that they are meant for, and the others,
which repeat the whole grid, where the configuration asks for them.
"""

from marconi_core.experiments import ablation, blocks, geometry, regret, requests, sweeps
from marconi_core.experiments.base import Experiment

EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment
    for experiment in (
        blocks.REUSE,
        requests.LENGTHS,
        requests.BY_LENGTH,
        *sweeps.SWEEPS,
        ablation.ABLATION,
        regret.REGRET,
        geometry.GEOMETRY,
    )
}

FIGURES = tuple(name for name, one in EXPERIMENTS.items() if one.arrivals is not None)
"""Experiments behind figures of the paper."""
