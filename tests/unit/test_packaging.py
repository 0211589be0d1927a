"""What is checked in beside the code stays in step with it."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import marconi_core
from marconi_core.derived import derived_files, main


@pytest.fixture(scope="module")
def project(repository: Path) -> dict[str, object]:
    content = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))
    return content["project"]  # type: ignore[no-any-return]


def locked_versions(repository: Path) -> dict[str, list[str]]:
    versions: dict[str, list[str]] = {}
    for line in (repository / "requirements.lock").read_text(encoding="utf-8").splitlines():
        if match := re.match(r"([\w.-]+)==([^ ;\\]+)", line):
            versions.setdefault(canonicalize_name(match[1]), []).append(match[2])
    return versions


def test_derived_files_are_in_step(repository: Path) -> None:
    stale = [
        path.name
        for path, text in derived_files(repository).items()
        if path.read_text(encoding="utf-8") != text
    ]
    assert stale == [], "run `make derived`"


def test_derived_files_are_regenerated(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readme = tmp_path / "workflow/config/README.md"
    readme.parent.mkdir(parents=True)
    readme.write_text("<!-- options: begin -->old<!-- options: end -->\n", encoding="utf-8")
    (tmp_path / "pyproject.toml").write_text(
        (repository / "pyproject.toml").read_text(encoding="utf-8"), encoding="utf-8"
    )
    monkeypatch.chdir(tmp_path)
    assert main([]) == 1
    assert main(["--write"]) == 0
    assert main([]) == 0
    assert "| `model` |" in readme.read_text(encoding="utf-8")


def test_lock_satisfies_pyproject(repository: Path, project: dict[str, object]) -> None:
    locked = locked_versions(repository)
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["dev"]]  # type: ignore[misc, index]
    for requirement in map(Requirement, wanted):
        versions = locked.get(canonicalize_name(requirement.name), [])
        assert versions, f"{requirement.name} is not locked: run `make lock`"
        assert all(map(requirement.specifier.contains, versions)), requirement


@pytest.mark.parametrize(
    "lock",
    [
        "requirements.lock",
        "sglang_patch/v0.5.16/requirements.lock",
        "sglang_patch/v0.5.6.post2/requirements.lock",
        "tests/patch/requirements.txt",
        "tests/slurm/requirements.lock",
    ],
)
def test_locks_have_hashes_and_no_index(repository: Path, lock: str) -> None:
    text = (repository / lock).read_text(encoding="utf-8")
    pinned = re.findall(r"^[\w.-]+(?:\[[\w,-]+\])?==", text, re.MULTILINE)
    hashed = re.findall(r"^[\w.-]+(?:\[[\w,-]+\])?==.*\\\n    --hash=sha256:", text, re.MULTILINE)
    assert len(pinned) == len(hashed) > 30
    assert not re.search(r"https?:|file:|--index|--find-links|@ ", text)


def test_version_is_in_the_changelog_and_citation(repository: Path) -> None:
    version = marconi_core.__version__
    assert f"## {version}" in (repository / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"version: {version}" in (repository / "CITATION.cff").read_text(encoding="utf-8")


@pytest.mark.sources
def test_the_plug_in_has_the_same_version(repository: Path) -> None:
    text = (repository / "sglang_patch/marconi_sglang/__init__.py").read_text(encoding="utf-8")
    assert f'__version__ = "{marconi_core.__version__}"' in text


@pytest.mark.sources
def test_importing_the_package_needs_no_gpu_stack(repository: Path) -> None:
    imports = re.compile(r"^(?:import|from) (torch|transformers|sglang)\b", re.MULTILINE)
    offenders = [
        path.relative_to(repository).as_posix()
        for path in (repository / "marconi_core").rglob("*.py")
        if imports.search(path.read_text(encoding="utf-8"))
    ]
    assert offenders == []


PACKAGES_BELOW = {
    "traces": set(),
    "models": set(),
    "policies": {"models"},
    "sim": {"models", "policies", "traces"},
    "experiments": {"models", "policies", "sim", "traces"},
    "serving": {"models", "policies", "sim", "traces"},
    "replay": {"serving", "sim", "traces"},
    "report": {"models", "policies", "replay", "serving", "sim", "traces"},
    "plots": {"models", "policies", "report", "serving", "traces"},
}
"""What these packages may import. Programs (``__main__``) may import everything, and nothing imports them."""


def imported_packages(root: Path) -> dict[str, set[str]]:
    """Return which other packages each package imports, programs left out."""
    packages = {path.parent.name for path in root.glob("*/__init__.py")}
    imports = re.compile(r"^ *(?:import|from) marconi_core\.(\w+)", re.MULTILINE)
    return {
        name: {
            other
            for path in (root / name).rglob("*.py")
            if path.name != "__main__.py"
            for other in imports.findall(path.read_text(encoding="utf-8"))
            if other in packages and other != name
        }
        for name in packages
    }


@pytest.mark.sources
def test_packages_know_nothing_of_those_above_them(repository: Path) -> None:
    known = imported_packages(repository / "marconi_core")
    assert not [name for name in known if "rules" in known[name]]
    assert not [name for name in known.keys() - {"rules"} if "config" in known[name]]
    assert {name: known[name] - below for name, below in PACKAGES_BELOW.items()} == {
        name: set() for name in PACKAGES_BELOW
    }


@pytest.mark.sources
def test_packages_import_only_what_the_documentation_lists_above_them(repository: Path) -> None:
    text = (repository / "docs/architecture.md").read_text(encoding="utf-8")
    order = re.findall(r"^\*\*`(\w+)`\*\* ", text, re.MULTILINE)
    known = imported_packages(repository / "marconi_core")
    assert sorted(order) == sorted(known)
    for place, name in enumerate(order):  # hence there are no cycles
        assert known[name] <= set(order[:place]), name


@pytest.mark.sources
def test_nothing_imports_a_program(repository: Path) -> None:
    program = re.compile(
        r"^ *(?:from [\w.]+ import .*\b__main__\b|(?:from|import) \S+\.__main__)", re.MULTILINE
    )
    files = (repository / "marconi_core").rglob("*.py")
    assert not [path for path in files if program.search(path.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("path", sorted(Path(__file__).parents[2].glob("workflow/scripts/*.py")))
def test_scripts_are_thin_adapters(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 40
    assert "\ndef main(snakemake):\n" in text
    assert text.endswith('\nif "snakemake" in globals():\n    main(snakemake)  # noqa: F821\n')
