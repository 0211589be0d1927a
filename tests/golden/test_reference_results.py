"""Golden results of the reference simulator: integers and digests must be equal, not close."""

import json
import lzma
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from marconi_core.models.paper import Geometry
from marconi_core.sim.digests import cached_nodes, summary
from marconi_core.sim.simulation import Simulator
from marconi_core.traces.arrivals import TypingArrivals
from marconi_core.traces.jsonl import read_trace
from marconi_core.traces.trace import Workload

REFERENCE = Path(__file__).parent / "reference"
POLICIES = {"vllm+": "vllm_plus", "v1": "sglang_plus", "v2": "marconi", "v3": "oracle"}
NOT_COMPARED = {
    "alpha", "tuning", "request_history", "num_reqs_before_eviction", "other_tied_choices",
}  # fmt: skip


@cache
def _golden(file: str) -> dict[str, Any]:
    path = REFERENCE / file
    with lzma.open(path) if path.suffix == ".xz" else open(path, "rb") as content:
        return json.load(content)["configs"]


SYNTHETIC = list(_golden("synthetic.json.xz").values())
SHAREGPT = list(_golden("sharegpt.json").values())


@cache
def _synthetic(trace: str, model: Geometry) -> Simulator:
    return Simulator(read_trace(REFERENCE / f"{trace}.xz"), model)


def _name(config: dict[str, Any]) -> str:
    return f"{config['trace']}-{config['capacity_bytes']:g}"


@pytest.mark.parametrize("config", SYNTHETIC, ids=_name)
def test_synthetic_traces(config: dict[str, Any]) -> None:
    _compare(_synthetic(config["trace"], Geometry(**config["model"])), config)


@pytest.mark.parametrize("config", SHAREGPT, ids=_name)
@pytest.mark.network
def test_sharegpt(config: dict[str, Any], sharegpt: Workload) -> None:
    assert config["trace"] == "sharegpt_sps=1_nums=100.jsonl"
    trace = sharegpt.schedule(TypingArrivals(sessions_per_second=1).timestamps(sharegpt))
    _compare(Simulator(trace, Geometry(**config["model"])), config)


def _compare(simulator: Simulator, config: dict[str, Any]) -> None:
    for name, expected in config["policies"].items():
        for alpha, golden in (expected if name == "v3" else {None: expected}).items():
            run = simulator.run(
                POLICIES[name],
                config["capacity_bytes"],
                alpha=None if alpha is None else float(alpha),
                bootstrap_multiplier=config["bootstrap_multiplier"],
                log=True,
            )
            nodes = list(cached_nodes(run))
            ours = summary(run, config["trace"], "") | {
                "final_states": len(nodes),
                "final_kv_tokens": sum(len(node.tokens) for node in nodes),
            }
            compared = golden.keys() - NOT_COMPARED
            assert {key: ours[key] for key in compared} == {key: golden[key] for key in compared}
            if "tuning" in golden:
                tuned = golden["tuning"] and {
                    float(tried): row["flops_saved"]
                    for tried, row in golden["tuning"]["grid"].items()
                }
                assert tuned == (run.tuning and run.tuning.scores)
