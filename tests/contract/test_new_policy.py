"""A policy is added by one file, and nothing else has to know it: it is simulated, drawn, reported."""

import textwrap
from pathlib import Path

import pandas as pd
import pytest

from marconi_core import policies
from marconi_core.errors import PolicyError
from marconi_core.models import MODELS
from marconi_core.plots import policies as figure
from marconi_core.plots.style import save
from marconi_core.policies import catalogue
from marconi_core.report.findings import findings
from marconi_core.report.roles import Role
from marconi_core.sim.sweep import sweep
from marconi_core.traces.arrivals import PoissonArrivals
from marconi_core.traces.sources import load_workload

FILE = """
from marconi_core.policies.base import Entry, Policy

def prefix(entry: Entry) -> float:
    return float(entry.end)

POLICIES = (Policy("deepest", "Deepest", "#117733", "judicious", prefix),)
"""


@pytest.fixture
def deepest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The policy `deepest`, as a file in the catalogue."""
    (tmp_path / "deepest.py").write_text(textwrap.dedent(FILE), encoding="utf-8")
    monkeypatch.setattr(catalogue, "__path__", [*catalogue.__path__, str(tmp_path)])
    found = catalogue.discover()
    for name in found.keys() - policies.POLICIES.keys():
        monkeypatch.setitem(policies.POLICIES, name, found[name])
    return "deepest"


def test_it_is_simulated_drawn_and_reported(deepest: str, tmp_path: Path) -> None:
    workload = load_workload("synthetic", {"sessions": 20, "mix": {"agent": 1.0}, "seed": 3})
    arrivals = PoissonArrivals(sessions_per_second=1, mean_response_time=5)
    tables = sweep(
        workload.schedule(arrivals.timestamps(workload)),
        capacities=[3e9],
        policies=["vllm_plus", "sglang_plus", "marconi", "lru", deepest],
        model=MODELS["paper_7b"],
        model_name="paper_7b",
        labels={"dataset": "agents", "trace": "agents"},
    )
    served = tables.requests.groupby("policy")["skipped_tokens"].sum()
    assert served[deepest] > 0 and served[deepest] != served["lru"]

    rows = figure.table(tables.runs, [Role("agents", None, stand_in=True)])
    assert rows["policy"].tolist()[-1] == deepest
    save(figure.draw(rows, {}), tmp_path / "policies.svg")
    assert "Deepest" in " ".join(findings(tables.runs))
    assert len(pd.unique(rows["policy"])) == 5


def test_two_policies_of_one_name_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "again.py").write_text(FILE.replace("deepest", "lru"), encoding="utf-8")
    monkeypatch.setattr(catalogue, "__path__", [*catalogue.__path__, str(tmp_path)])
    with pytest.raises(PolicyError, match="two policies named 'lru'"):
        catalogue.discover()
