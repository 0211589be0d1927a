"""An edit reruns what depends on it, and nothing else: every rule's digest has what its script imports."""

import ast
import shutil
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

import marconi_core
from marconi_core import provenance
from marconi_core.assets import resource

from .conftest import parsed_rules

PACKAGE = Path(marconi_core.__file__).parent
DECIDE = (
    *("traces", "models", "policies", "sim", "experiments", "plots", "report", "replay"),
    "serving/recorded_times",
    "serving/recordings",
)
"""Packages and modules whose code can change a result. The configuration's values are parameters of rules."""

READING = {"traces/compiled", "traces/reading"}
"""What is read is an input of the rule, whose change counts."""

PREDICTING = PACKAGE / "report/predicted.py"
"""Simulates for the rule `predict`; the others take the name of its table from it."""

SHELL_RULES = {"predict": PREDICTING, "forecast_replays": PACKAGE / "replay/forecast.py"}
"""The modules that do what rules with a command and a digest ask for."""


Digested = dict[str, tuple[Path, set[str]]]
"""By rule: its script, or the module behind its command, and the parts of the package in its digest."""


@cache
def imported(file: Path) -> frozenset[Path]:
    """Return the files of the package that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (module := node.module or "").startswith(
            "marconi_core"
        ):
            found |= {origin(f"{module}.{alias.name}") or origin(module) for alias in node.names}
    return frozenset(found - {None})


@cache
def origin(name: str) -> Path | None:
    try:
        spec = find_spec(name)
    except ModuleNotFoundError:  # `name` is something in a module
        return None
    return Path(spec.origin) if spec and spec.origin else None


def modules_behind(script: Path) -> Iterator[str]:
    """Yield the modules that decide a script's results, as `code_digest` names them.

    Args:
        script: where to begin; a module of the package is among them itself, and all of `serving` counts,
            as the servers that it describes decide its results.
    """
    decide = (*DECIDE, "serving", "files") if script in SHELL_RULES.values() else DECIDE
    seen: set[Path] = set()
    todo = {script}
    while todo:
        file = todo.pop()
        seen.add(file)
        todo |= {
            path
            for path in imported(file) - seen
            if (file == script or file != PREDICTING) and within(path, (*decide, "rules", "jit"))
        }
    for file in seen:
        if file.is_relative_to(PACKAGE) and within(file, decide) and file.name != "__init__.py":
            yield file.relative_to(PACKAGE).with_suffix("").as_posix()


def within(file: Path, parts: tuple[str, ...]) -> bool:
    """Whether a file is one of some parts of the package, or in one."""
    module = file.relative_to(PACKAGE).with_suffix("")
    return any(module.is_relative_to(part) for part in parts)


@pytest.fixture
def digested(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> Digested:
    """All rules that have both."""
    with monkeypatch.context() as patch:
        patch.setattr(provenance, "code_digest", lambda *parts: " ".join(parts))
        with parsed_rules(checkout, live={"server": "simulated"}) as rules:
            return {
                rule.name: (
                    checkout / "workflow/rules" / rule.script
                    if rule.script
                    else SHELL_RULES[rule.name],
                    set(code.split()),
                )
                for rule in rules.values()
                if (code := dict(rule.params.items()).get("code"))  # fetched or tried: none
                and code != "."  # the whole package
            }


def test_digests_have_all_that_scripts_import(digested: Digested) -> None:
    missing = {}
    for name, (script, parts) in digested.items():
        behind = {
            module
            for module in modules_behind(script)
            if not any(module == part or module.startswith(f"{part}/") for part in parts | READING)
        }
        if behind:
            missing[name] = sorted(behind)
    assert len(digested) > 25 and digested.keys() > SHELL_RULES.keys()
    assert not missing


def test_what_talks_to_servers_does_not_rerun_predictions(digested: Digested) -> None:
    for rule in SHELL_RULES:
        parts = digested[rule][1]
        for module in ("serving/server", "serving/client", "serving/simulated/app", "replay/run"):
            assert not any(Path(module).is_relative_to(part) for part in parts), (rule, module)


def test_edits_of_what_is_no_code_count_too(
    digested: Digested, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the paper says, and how figures look."""
    shutil.copytree(PACKAGE, tmp_path / "package")
    shutil.copytree(resource("expected"), tmp_path / "resources" / "expected")
    monkeypatch.setattr(provenance, "PACKAGE_ROOT", tmp_path / "package")
    monkeypatch.setattr(provenance, "resource", lambda name: tmp_path / "resources" / name)
    rules = ("claims", "fig7", "fig9_panel", "fig11", "live_page")
    parts = {rule: digested[rule][1] for rule in rules}
    try:
        for edited in ("resources/expected/claims.csv", "package/plots/marconi.mplstyle"):
            before = _digests(parts)
            with (tmp_path / edited).open("a", encoding="utf-8") as file:
                file.write("# edited\n")
            after = _digests(parts)
            assert [rule for rule in rules if before[rule] == after[rule]] == [], edited
    finally:
        _forget()


def _digests(parts: dict[str, set[str]]) -> dict[str, str]:
    _forget()
    return {rule: provenance.code_digest(*own) for rule, own in parts.items()}


def _forget() -> None:
    provenance.syntax.cache_clear()
    provenance.code_digest.cache_clear()


def test_an_edit_of_one_simulator_does_not_rerun_the_other(
    digested: Digested, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "package"
    shutil.copytree(PACKAGE, package)
    monkeypatch.setattr(provenance, "PACKAGE_ROOT", package)

    parts = {rule: digested[rule][1] for rule in ("simulate", "experiment", "simulate_server")}

    def rerun_by(edited: str) -> set[str]:
        before = dict(known)
        with package.joinpath(f"{edited}.py").open("a", encoding="utf-8") as file:
            file.write("\nEDITED = True\n")
        known.update(_digests(parts))
        return {rule for rule in known if known[rule] != before[rule]}

    known = _digests(parts)
    try:
        for module in ("sim/radix", "sim/records", "policies/flop_aware", "policies/catalogue/lru"):
            assert rerun_by(module) == {"simulate", "experiment"}, module
        for module in ("sim/server/engine", "policies/two_pool", "policies/cached_tree"):
            assert rerun_by(module) == {"simulate_server"}, module
        assert rerun_by("sim/sweep") == {"simulate"}
        assert rerun_by("sim/bound") == {"experiment"}
        for module in ("policies/candidates", "policies/siblings"):
            assert rerun_by(module) == {"simulate", "experiment", "simulate_server"}, module
    finally:
        _forget()
