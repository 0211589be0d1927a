"""A policy is added as docs/extend.md says: by one file and its name in a configuration, no more."""

import re
import textwrap
from pathlib import Path

import pytest
import yaml

from marconi_core import policies
from marconi_core.config import load_config
from marconi_core.errors import PolicyError
from marconi_core.models import load_model
from marconi_core.plots import policies as figure
from marconi_core.plots.style import save
from marconi_core.policies import catalogue
from marconi_core.report.claims import evaluate, load_claims
from marconi_core.report.page import summary, to_html
from marconi_core.rules.study import grid, load_trace
from marconi_core.sim.sweep import sweep
from marconi_core.traces.sources import load_workload

CONFIG = "workflow/config/smoke.yaml"
DATASET, TRACE = "tiny_agents", "tiny_agents_sps=1_art=5_nums=8"


@pytest.fixture
def file(repository: Path) -> str:
    """The file that the documentation shows."""
    text = (repository / "docs/extend.md").read_text(encoding="utf-8")
    shown = re.search(
        r"`marconi_core/policies/catalogue/deepest.py`:\n\n +```python\n(.+?)```", text, re.S
    )
    assert shown
    return textwrap.dedent(shown[1])


@pytest.fixture
def deepest(file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The policy `deepest`, as a file in the catalogue."""
    (tmp_path / "deepest.py").write_text(file, encoding="utf-8")
    monkeypatch.setattr(catalogue, "__path__", [*catalogue.__path__, str(tmp_path)])
    found = catalogue.discover()
    for name in found.keys() - policies.POLICIES.keys():
        monkeypatch.setitem(policies.POLICIES, name, found[name])
    return "deepest"


def test_it_is_simulated_drawn_and_reported(deepest: str, repository: Path, tmp_path: Path) -> None:
    content = yaml.safe_load((repository / CONFIG).read_text(encoding="utf-8"))
    content["policies"] = ["vllm_plus", "sglang_plus", "marconi", "lru", deepest]
    config = load_config(content)
    dataset = config.datasets[DATASET]
    compiled = tmp_path / "workload.npz"
    load_workload(dataset.source, dataset.reader_params).save(compiled)
    tables = sweep(
        load_trace(config, TRACE, compiled), model=load_model(config.model), **grid(config, TRACE)
    )
    served = tables.requests.groupby("policy")["skipped_tokens"].sum()
    assert served[deepest] > 0 and served[deepest] != served["lru"]

    roles = config.roles([DATASET])
    rows = figure.table(tables.runs, roles)
    assert set(rows["policy"]) == set(config.policies)
    save(figure.draw(rows, {}), tmp_path / "policies.svg")
    drawn = {
        text.get_text() for axes in figure.draw(rows, {}).axes for text in axes.get_yticklabels()
    }
    assert "Deepest" in drawn

    claims = evaluate(load_claims(), tables.runs, tables.requests, roles)
    page = to_html(summary(claims, tables.runs, roles, {}, {}))
    assert re.search(r"Policies that the paper does not have: [^<]*Deepest \d", page)


def test_two_policies_of_one_name_are_refused(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "again.py").write_text(file.replace('"deepest"', '"lru"'), encoding="utf-8")
    monkeypatch.setattr(catalogue, "__path__", [*catalogue.__path__, str(tmp_path)])
    with pytest.raises(PolicyError, match="two policies named 'lru'"):
        catalogue.discover()
