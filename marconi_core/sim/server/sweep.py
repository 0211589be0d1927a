"""The server under every policy, as a tidy table: one trace, several sizes of the pools."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from marconi_core.models.cost import CostModel
from marconi_core.policies.two_pool import EvictionSettings
from marconi_core.provenance import provenance_columns
from marconi_core.sim.server.engine import PoolSizes
from marconi_core.sim.server.leader import FollowLeader
from marconi_core.sim.server.policy import ADMISSION_ONLY, STOCK, ServerPolicy, marconi
from marconi_core.sim.server.strategy import Strategy, server_simulator
from marconi_core.sim.server.tuning import Following, OnlineTuner
from marconi_core.sim.server.windows import ReplayWindows
from marconi_core.traces.trace import Trace

CODE = (
    "jit",
    "models",
    "policies/cached_tree",
    "policies/candidates",
    "policies/siblings",
    "policies/tuner",
    "policies/two_pool",
    "sim/server",
    "traces/trace",
    "traces/tree",
)
"""The parts of the package whose code determines a result."""

OTHER_PRICES = (0.0, 0.25)
"""Values of lambda beside the default, each with every alpha."""


@dataclass(frozen=True)
class Variant:
    """A server with a policy.

    Attributes:
        name: how result rows call it; fixed alphas share one.
        method: how alpha is tuned; None for a fixed one, or where there is none.
    """

    name: str
    policy: ServerPolicy
    method: FollowLeader | ReplayWindows | None = None
    strategy: Strategy = "no_buffer"


def variants(alphas: Sequence[float]) -> Iterator[Variant]:
    """Yield what is compared.

    `every_branch_point` is Marconi with a state at each, be it of use or not; `paper_admission` also is
    choosy about all other states even when they are not what is short; `paper_tuner` tunes as the
    paper does.
    """
    leader, windows = FollowLeader(tuple(alphas)), ReplayWindows(alphas=tuple(alphas))
    yield Variant("stock_0.5.6", STOCK, strategy="0.5.6.post2")
    yield Variant("stock", STOCK)
    yield Variant("stock_extra_buffer", STOCK, strategy="extra_buffer")
    yield Variant("admission_only", ADMISSION_ONLY)
    yield Variant("marconi", marconi(), leader)
    yield Variant("marconi_extra_buffer", marconi(), leader, "extra_buffer")
    yield Variant("paper_tuner", marconi(), windows)
    yield Variant("every_branch_point", marconi(branch_gain=1), leader)
    paper = ServerPolicy("branch_points", EvictionSettings(), branch_gain=1)
    yield Variant("paper_admission", paper, leader)
    yield Variant("seglen", marconi(objective="seglen"), leader)
    for alpha in alphas:
        yield Variant("fixed", marconi(alpha))
        for price in OTHER_PRICES if alpha else ():
            yield Variant("fixed", marconi(alpha, price))


def server_sweep(
    trace: Trace,
    pools: Sequence[PoolSizes],
    costs: CostModel,
    chunk: int | None,
    alphas: Sequence[float],
    labels: Mapping[str, Any] | None = None,
    progress: Callable[[int, int, str], None] = lambda done, total, what: None,
) -> pd.DataFrame:
    """Simulate every variant on every pair of pools; return one row each.

    Args:
        chunk: `--chunked-prefill-size`; None for no chunked prefill.
        labels: columns put in front of every row.
        progress: called before each simulation with how many are done, how many there are, and
            which is next.

    Raises:
        PolicyError: a request fits no pool.
    """
    requests = [(trace.input_tokens(i), trace.output_tokens(i)) for i in range(len(trace))]
    provenance = provenance_columns(trace.digest(), *CODE)
    grid = [(sizes, variant) for sizes in pools for variant in variants(alphas)]
    rows = []
    for done, (sizes, variant) in enumerate(grid):
        progress(done, len(grid), f"{variant.name} with {sizes.states} states")
        hits, tunings = _serve(requests, sizes, variant, costs, chunk)
        eviction = variant.policy.eviction
        rows.append(
            {
                **(labels or {}),
                **asdict(sizes),
                "policy": variant.name,
                "alpha": np.nan if eviction is None or variant.method else eviction.alpha,
                "other_pool": np.nan if eviction is None else eviction.other_pool,
                "tunings": tunings,
                "requests": len(requests),
                **_saved(trace.n_in, hits, costs),
                **provenance,
            }
        )
    return pd.DataFrame(rows)


def _serve(
    requests: Sequence[tuple[NDArray[np.int32], NDArray[np.int32]]],
    sizes: PoolSizes,
    variant: Variant,
    costs: CostModel,
    chunk: int | None,
) -> tuple[NDArray[np.int64], int]:
    """Return each request's hit, and how often alpha was tuned."""
    if variant.method is None:
        simulator = server_simulator(variant.strategy, sizes, variant.policy, costs, chunk)
        hits = [simulator.serve(prompt, output).hit for prompt, output in requests]
        return np.array(hits, np.int64), 0
    following = Following(sizes, variant.policy, costs, chunk, variant.strategy, variant.method)
    tuner = OnlineTuner(following)
    hits = [tuner.observe(prompt, output) for prompt, output in requests]
    return np.array(hits, np.int64), len(tuner.history)


def _saved(
    n_in: NDArray[np.int64], hits: NDArray[np.int64], costs: CostModel
) -> dict[str, int | float]:
    """Return what the hits are worth, of all prefills."""
    saved = sum(costs.flops(int(hit)) for hit in hits)
    needed = sum(costs.flops(int(tokens)) for tokens in n_in)
    return {
        "input_tokens": int(n_in.sum()),
        "hit_tokens": int(hits.sum()),
        "token_hit_rate": float(hits.sum() / n_in.sum()),
        "flops_saved": float(saved),
        "flops_saved_share": saved / needed,
    }
