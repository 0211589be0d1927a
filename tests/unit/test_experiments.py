"""Experiments: what is counted, and which data sets take part."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marconi_core.config import Config, load_config
from marconi_core.experiments import EXPERIMENTS, FIGURES
from marconi_core.experiments.blocks import count
from marconi_core.rules.experiments import arrivals_of, run_experiment
from marconi_core.sim.alignment import aligned
from marconi_core.traces.jsonl import write_trace
from marconi_core.traces.sources import load_workload
from marconi_core.traces.trace import Request, Trace

CHAIN = st.lists(st.integers(1, 2), min_size=1, max_size=20)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(CHAIN, CHAIN, st.integers(0, 20)), min_size=1, max_size=12))
def test_blocks_are_counted_as_by_hand(requests: list[tuple[list[int], list[int], int]]) -> None:
    trace = Trace.build(
        Request(i, 0, float(i), prompt, output) for i, (prompt, output, _) in enumerate(requests)
    )
    hits = np.array([min(hit, len(prompt)) for prompt, _, hit in requests])
    created, kvs, states = set(), set(), set()
    for (prompt, output, _), hit in zip(requests, hits.tolist(), strict=True):
        whole = tuple(prompt + output)
        created |= {whole[:end] for end in range(4, len(whole) + 1, 4)}
        kvs |= {whole[:end] for end in range(4, hit + 1, 4)}
        if hit and hit % 4 == 0:
            states.add(whole[:hit])
    assert count(trace, hits, 4) == (len(created), len(kvs), len(states))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(CHAIN, CHAIN), min_size=1, max_size=12), st.integers(1, 5))
def test_an_aligned_tree_holds_the_full_blocks(
    requests: list[tuple[list[int], list[int]]], block: int
) -> None:
    trace = Trace.build(
        Request(i, 0, float(i), prompt, output) for i, (prompt, output) in enumerate(requests)
    )
    tree, new_id = aligned(trace.tree, block)
    cut = set()
    for (prompt, output), end in zip(requests, new_id[trace.out_node].tolist(), strict=True):
        whole = prompt + output
        full = len(whole) // block * block
        assert tree.sequence(end).tolist() == whole[:full]
        cut |= {tuple(whole[:length]) for length in range(block, full + 1, block)}
    assert (tree.depth % block == 0).all()
    assert int((tree.depth - tree.depth[tree.parent]).sum()) == block * len(cut)


def configuration(folder: Path | None = None, rates: tuple[float, ...] = (1,)) -> Config:
    dataset = {
        "source": "synthetic",
        "paper_dataset": "swebench",
        "sessions": 4,
        "arrivals": {
            "kind": "poisson", "sessions_per_second": rates, "mean_response_time": [7.5],
        },
        "capacities_bytes": [2e9],
    }  # fmt: skip
    if folder:
        dataset["trace_dir"] = str(folder)
    return load_config({"datasets": {"agents": dataset}, "alphas": [0, 1]})


def test_a_data_set_takes_part_by_its_role() -> None:
    config = configuration()
    parts = [name for name in EXPERIMENTS if arrivals_of(config, name, "agents")]
    assert set(parts) == {*FIGURES, "ablation", "regret", "geometry"} - {"fig3a"}
    assert len(arrivals_of(config, "regret", "agents")) == 1


def test_ready_traces_take_part_if_all_are_there(tmp_path: Path) -> None:
    workload = load_workload("synthetic", {"sessions": 4, "seed": 1})
    config = configuration(tmp_path, rates=(0.5, 1, 2))
    files = {}
    for arrivals in arrivals_of(config, "fig13a", "agents"):
        name = f"agents_{arrivals.label}_nums=4"
        trace = workload.schedule(arrivals.timestamps(workload))
        write_trace(trace, tmp_path / f"{name}.jsonl")
        trace.save(tmp_path / f"{name}.npz")
        files[name] = str(tmp_path / f"{name}.npz")
    rows = run_experiment(config, "fig13a", "agents", files)
    assert rows["x"].unique().tolist() == ["0.5", "1", "2"]
    assert set(rows["dataset"]) == {"agents"}
    assert arrivals_of(configuration(tmp_path, rates=(0.5, 1)), "fig13a", "agents") == ()


@pytest.mark.parametrize("name", FIGURES)
def test_figures_experiments_say_on_which_data(name: str) -> None:
    assert EXPERIMENTS[name].arrivals
