"""The table of a simulated server: what is compared, and what a row says."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from marconi_core.models.paper import Geometry, PaperModel
from marconi_core.plots import server_pools
from marconi_core.plots.style import save
from marconi_core.report.roles import Role
from marconi_core.sim.server import STOCK, PoolSizes, ServerSimulator, marconi
from marconi_core.sim.server.sweep import server_sweep
from marconi_core.traces.trace import Request, Trace
from tests.unit.test_server_tuning import conversations

COSTS = PaperModel(Geometry(3, 1, 0, d=32, n=8))
POOLS = [PoolSizes(2_000, 8), PoolSizes(20_000, 400)]
ALPHAS = (0.0, 0.5, 2.0)


@pytest.fixture(scope="module")
def trace() -> Trace:
    return Trace.build(
        Request(str(i), 0, float(i), prompt, output)
        for i, (prompt, output) in enumerate(conversations(120))
    )


@pytest.fixture(scope="module")
def runs(trace: Trace) -> pd.DataFrame:
    labels = {"dataset": "chats", "trace": "chats_sps=1"}
    return server_sweep(trace, POOLS, COSTS, 64, ALPHAS, labels)


def only(runs: pd.DataFrame, sizes: PoolSizes, policy: str) -> pd.DataFrame:
    return runs[(runs["states"] == sizes.states) & (runs["policy"] == policy)]


def test_rows_are_what_the_simulator_says(trace: Trace, runs: pd.DataFrame) -> None:
    requests = [(trace.input_tokens(i), trace.output_tokens(i)) for i in range(len(trace))]
    for name, policy, alpha in (("stock", STOCK, np.nan), ("fixed", marconi(0.5), 0.5)):
        simulator = ServerSimulator(POOLS[0], policy, COSTS, 64)
        hits = [simulator.serve(*request).hit for request in requests]
        rows = only(runs, POOLS[0], name)
        if name == "fixed":
            rows = rows[(rows["alpha"] == alpha) & (rows["other_pool"] == 1)]
        (row,) = rows.to_dict("records")
        assert row["hit_tokens"] == sum(hits) > 0
        assert row["token_hit_rate"] == sum(hits) / trace.n_in.sum()
        assert row["flops_saved"] == sum(COSTS.flops(hit) for hit in hits)
        assert row["flops_saved_share"] == row["flops_saved"] / sum(
            COSTS.flops(int(tokens)) for tokens in trace.n_in
        )
        assert row["trace_digest"] == trace.digest()


def test_with_ample_pools_nothing_is_tuned_and_all_alphas_are_alike(runs: pd.DataFrame) -> None:
    assert only(runs, POOLS[1], "marconi")["tunings"].item() == 0
    assert only(runs, POOLS[1], "fixed")["hit_tokens"].nunique() == 1
    assert only(runs, POOLS[0], "fixed")["hit_tokens"].nunique() > 1


def test_the_table_names_the_best_fixed_alpha(runs: pd.DataFrame) -> None:
    rows = server_pools.table(runs, [Role("chats", None, stand_in=False)])
    assert list(rows["states"]) == [8, 400]
    fixed = only(runs, POOLS[0], "fixed")
    fixed = fixed[fixed["other_pool"] == 1]
    best = fixed.loc[fixed["token_hit_rate"].idxmax()]
    assert rows["hit_oracle"][0] == 100 * best["token_hit_rate"]
    assert rows["oracle_alpha"][0] == best["alpha"]
    assert rows["hit_alpha_0"][0] <= rows["hit_oracle"][0]
    assert rows["flops_stock"][0] == 100 * only(runs, POOLS[0], "stock")["flops_saved_share"].item()


def test_same_rows_give_the_same_bytes(runs: pd.DataFrame, tmp_path: Path) -> None:
    rows = server_pools.table(runs, [Role("chats", None, stand_in=False)])
    for name in ("one.svg", "two.svg"):
        save(server_pools.draw(rows), tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
