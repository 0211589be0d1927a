"""An edit reruns what depends on it: every rule's digest has the modules that its script imports."""

import ast
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
from snakemake.api import SnakemakeApi
from snakemake.settings.types import ConfigSettings, OutputSettings, ResourceSettings

import marconi_core
from marconi_core import provenance

PACKAGE = Path(marconi_core.__file__).parent
DECIDE = (
    *("traces", "models", "policies", "sim", "experiments", "plots", "report", "replay"),
    "serving/recordings",
)
"""Packages and modules whose code can change a result. The configuration's values are parameters of rules."""

READING = {"traces/compiled", "traces/reading"}
"""What is read is an input of the rule, whose change counts."""

PREDICTING = PACKAGE / "report/predicted.py"
"""Simulates for the rule `predict`; the others take the name of its table from it."""


@cache
def imported(file: Path) -> frozenset[Path]:
    """Return the files of the package that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            found |= {origin(name) for name in names if name.startswith("marconi_core.")}
    return frozenset(found - {None})


@cache
def origin(name: str) -> Path | None:
    try:
        spec = find_spec(name)
    except ModuleNotFoundError:  # `name` is something in a module
        return None
    return Path(spec.origin) if spec and spec.origin else None


def modules_behind(script: Path) -> Iterator[str]:
    """Yield the modules that decide a script's results, as `code_digest` names them."""
    seen: set[Path] = set()
    todo = {script}
    while todo:
        file = todo.pop()
        seen.add(file)
        todo |= {
            path
            for path in imported(file) - seen
            if file != PREDICTING and within(path, (*DECIDE, "rules", "jit"))
        }
    for file in seen - {script}:
        if within(file, DECIDE) and file.name != "__init__.py":
            yield file.relative_to(PACKAGE).with_suffix("").as_posix()


def within(file: Path, parts: tuple[str, ...]) -> bool:
    """Whether a file is one of some parts of the package, or in one."""
    module = file.relative_to(PACKAGE).with_suffix("")
    return any(module.is_relative_to(part) for part in parts)


def test_digests_have_all_that_scripts_import(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "code_digest", lambda *parts: " ".join(parts))
    with SnakemakeApi(OutputSettings(dryrun=True)) as api:
        workflow = api.workflow(
            resource_settings=ResourceSettings(cores=1),
            config_settings=ConfigSettings(config={"live": {"server": "simulated"}}),
            snakefile=checkout / "Snakefile",
            workdir=checkout,
        )
        workflow.dag()  # parses
        rules = [rule for rule in workflow._workflow.rules if rule.script]
        digests = {rule.name: dict(rule.params.items()).get("code") for rule in rules}
        scripts = {rule.name: checkout / "workflow/rules" / rule.script for rule in rules}
    missing = {}
    for name, digest in digests.items():
        if digest is not None:  # what is fetched or tried does not depend on code
            parts = {*digest.split(), *READING}
            behind = {
                module
                for module in modules_behind(scripts[name])
                if not any(module == part or module.startswith(f"{part}/") for part in parts)
            }
            if behind:
                missing[name] = sorted(behind)
    assert len(digests) > 25
    assert not missing
