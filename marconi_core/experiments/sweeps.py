"""The paper's microbenchmarks: token hit rates while one thing varies (Figures 11 to 13).

The paper does not say on which trace Figure 12 was made; since SGLang+'s rate at d_state 128 is that
of Figure 10, it is taken to be Figure 10's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

import pandas as pd

from marconi_core.experiments.base import Experiment, Setting, poisson
from marconi_core.experiments.requests import CAPACITY, CONTENDED
from marconi_core.policies import COMPARED
from marconi_core.sim.simulation import Simulator
from marconi_core.traces.arrivals import Arrivals

TWO = ("sglang_plus", "marconi")


@dataclass(frozen=True)
class Point:
    """One value of what varies, and what is simulated there.

    Attributes:
        x: the value as text, as in ``resources/expected/curves.csv``.
        capacity: bytes.
        geometry: fields of the model's geometry that differ.
    """

    x: str
    arrivals: Arrivals = CONTENDED
    capacity: float = CAPACITY
    geometry: Mapping[str, int] = field(default_factory=dict)


def hit_rates(
    points: tuple[Point, ...],
    policies: tuple[str, ...],
    setting: Setting,
    arrivals: tuple[Arrivals, ...],
) -> pd.DataFrame:
    """Return one row a point and policy."""
    rows = []
    for point in points:
        model = setting.model._replace(**point.geometry)
        simulator = Simulator(setting.trace(point.arrivals), model, setting.alphas)
        for policy in policies:
            run = simulator.run(
                policy, point.capacity, bootstrap_multiplier=setting.bootstrap_multiplier
            )
            rows.append(
                {
                    "x": point.x,
                    "policy": policy,
                    "alpha": run.alpha,
                    "capacity_bytes": point.capacity,
                    "token_hit_rate": run.token_hit_rate,
                }
            )
    return pd.DataFrame(rows)


def _sweep(name: str, policies: tuple[str, ...], *points: Point) -> Experiment:
    needed = tuple(dict.fromkeys(point.arrivals for point in points))
    return Experiment(name, {"swebench": needed}, partial(hit_rates, points, policies))


SWEEPS = (
    _sweep(
        "fig11", TWO,
        *(Point(str(gb), poisson(5, 10), gb * 1e9) for gb in (60, 80, 100, 120, 140)),
    ),
    _sweep(
        "fig12a", COMPARED,
        *(
            Point(f"{ssm}:{attn}", geometry={"num_ssm_layers": ssm, "num_attn_layers": attn})
            for ssm, attn in ((32, 4), (30, 5), (28, 7), (24, 12), (0, 36))
        ),
    ),
    _sweep("fig12b", COMPARED, *(Point(str(n), geometry={"n": n}) for n in (128, 64, 32, 16))),
    _sweep("fig13a", TWO, *(Point(str(sps), poisson(sps, 7.5), 1e11) for sps in (0.5, 1, 2))),
    _sweep("fig13b", TWO, *(Point(str(art), poisson(5, art), 1e11) for art in (5, 7.5, 10))),
)  # fmt: skip
