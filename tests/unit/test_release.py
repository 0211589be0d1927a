"""What is published: the archive, its digests, the audit, and what is said of the software."""

import hashlib
import json
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

import marconi_core
from marconi_core.errors import ReleaseError
from marconi_core.release.__main__ import main
from marconi_core.release.archive import archive
from marconi_core.release.audit import audit

NAME = f"marconi-artifact-{marconi_core.__version__}"


def git(checkout: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=T", "-c", "user.email=t@localhost", "-c", "core.hooksPath="]
    command = ["git", "-C", str(checkout), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def script(path: Path, text: str) -> str:
    """Write a program that stands in for another."""
    path.write_text(f"#!{sys.executable}\n{text}")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    root = tmp_path / "checkout"
    (root / "docs").mkdir(parents=True)
    (root / "README.md").write_text("read me\n")
    (root / "docs" / "ä b.md").write_text("a page\n")
    script(root / "run", "print('run')\n")
    (root / ".gitignore").write_text("/results/\n")
    (root / "results").mkdir()
    (root / "results" / "big.npz").write_text("computed")
    git(root, "init", "--quiet")
    git(root, "add", ".")
    git(root, "commit", "--quiet", "--message", "first")
    return root


def unpacked(path: Path, folder: Path) -> Path:
    with tarfile.open(path) as tar:
        tar.extractall(folder, filter="data")
    return folder / NAME


def test_the_archive_is_the_commit_with_digests(checkout: Path, tmp_path: Path) -> None:
    path = archive(tmp_path / "dist", checkout=checkout)
    assert path == tmp_path / "dist" / f"{NAME}.tar.gz"
    tree = unpacked(path, tmp_path / "elsewhere")
    files = {file.relative_to(tree).as_posix() for file in tree.rglob("*") if file.is_file()}
    assert files == {".gitignore", "README.md", "docs/ä b.md", "run", "SHA256SUMS"}
    digests = dict(
        reversed(line.split("  ", 1))
        for line in (tree / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    )
    assert digests == {
        name: hashlib.sha256((tree / name).read_bytes()).hexdigest()
        for name in files - {"SHA256SUMS"}
    }
    assert os.access(tree / "run", os.X_OK) and not os.access(tree / "README.md", os.X_OK)
    with tarfile.open(path) as tar:
        assert tar.pax_headers["comment"] == git(checkout, "rev-parse", "HEAD")
        assert {(m.uid, m.uname, m.mtime) for m in tar.getmembers()} == {
            (0, "", int(git(checkout, "log", "-1", "--format=%ct")))
        }


def test_the_same_commit_gives_the_same_bytes(checkout: Path, tmp_path: Path) -> None:
    first = archive(tmp_path / "one", checkout=checkout)
    clone = tmp_path / "clone"
    umask = os.umask(0o077)
    try:
        git(tmp_path, "clone", "--quiet", str(checkout), str(clone))
        assert archive(tmp_path / "two", checkout=clone).read_bytes() == first.read_bytes()
    finally:
        os.umask(umask)


@pytest.mark.parametrize("relative", [False, True])
def test_packages_travel_if_wanted(relative: bool, checkout: Path, tmp_path: Path) -> None:
    pip = "import pathlib, sys\nassert '--dest' in sys.argv\n"
    pip += "pathlib.Path('wheels').mkdir(exist_ok=True)\npathlib.Path('wheels/a.whl').touch()\n"
    python = script(tmp_path / "python", pip)
    python = os.path.relpath(python) if relative else python
    tree = unpacked(archive(tmp_path, checkout=checkout, pythons=[python]), tmp_path / "x")
    assert "  wheels/a.whl\n" in (tree / "SHA256SUMS").read_text()


@pytest.mark.parametrize(
    ("python", "message"),
    [
        ("no-such-python", "no-such-python: cannot be run"),
        (sys.executable, r"pip cannot download requirements\.lock \(ERROR: Could not open"),
    ],
)
def test_packages_that_cannot_be_had(
    python: str, message: str, checkout: Path, tmp_path: Path
) -> None:
    with pytest.raises(ReleaseError, match=message):
        archive(tmp_path / "dist", checkout=checkout, pythons=[python])
    assert not list((tmp_path / "dist").iterdir())


def test_no_archive_of_what_nobody_can_find_again(
    checkout: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(ReleaseError, match="is no checkout"):
        archive(tmp_path, checkout=checkout / "docs")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ReleaseError, match="no archive can be made here"):
        archive(tmp_path, checkout=tmp_path / "folder")
    (checkout / "forgotten.py").touch()
    monkeypatch.chdir(checkout)
    assert main(["archive", str(tmp_path / "dist")]) == 2
    assert "1 files are not committed, forgotten.py among them" in capsys.readouterr().err
    assert not (tmp_path / "dist").exists()


# --- the audit; pip-audit's own words, from its version 2.10

CLEAN: dict[str, Any] = {"name": "numpy", "version": "2.4.6", "vulns": []}
SKIPPED = {"name": "yte", "skip_reason": "Dependency not found on PyPI and could not be audited"}
VULNERABLE = {
    "name": "requests",
    "version": "2.30.0",
    "vulns": [
        {"id": "PYSEC-2023-74", "fix_versions": ["2.31.0"], "aliases": ["CVE-2023-32681"]},
        {"id": "PYSEC-0000-1", "fix_versions": [], "aliases": []},
    ],
}


def pip_audit(folder: Path, *packages: dict[str, Any], status: int = 0) -> str:
    answer = json.dumps({"dependencies": packages, "fixes": []})
    return script(folder / "pip-audit", f"print({answer!r})\nraise SystemExit({status})\n")


def test_findings_fail_the_audit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tool = pip_audit(tmp_path, CLEAN, VULNERABLE, SKIPPED, status=1)
    assert main(["audit", "some.lock", "--pip-audit", tool]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "some.lock: 2 packages audited, 1 could not be audited, 2 findings",
        "  requests 2.30.0: PYSEC-2023-74, fixed in 2.31.0",
        "  requests 2.30.0: PYSEC-0000-1, fixed in no version yet",
    ]


def test_a_clean_audit_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "a.lock", "--pip-audit", pip_audit(tmp_path, CLEAN)]) == 0
    assert capsys.readouterr().out == "a.lock: 1 packages audited, 0 findings\n"


def test_an_audit_that_cannot_be_made_says_so_and_passes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["audit", "a.lock", "--pip-audit", str(tmp_path / "absent")]) == 0
    assert re.fullmatch(
        r"a\.lock: NOT AUDITED: .*absent is not installed\n", capsys.readouterr().out
    )
    broken = script(tmp_path / "p", "import sys; sys.exit('ERROR:pip_audit._cli:no connection')")
    assert str(audit(tmp_path, [broken])) == "NOT AUDITED: ERROR:pip_audit._cli:no connection"
    nothing = str(audit(tmp_path, [pip_audit(tmp_path, SKIPPED, SKIPPED)]))
    assert nothing == "NOT AUDITED: no advisories for any of 2 packages"
    slow = script(tmp_path / "p", "import time; time.sleep(60)")
    assert "no answer within 0 s" in str(audit(tmp_path, [slow], timeout_s=0.2))


def test_citation_and_deposit_agree(repository: Path) -> None:
    citation = yaml.safe_load((repository / "CITATION.cff").read_text(encoding="utf-8"))
    deposit = json.loads((repository / ".zenodo.json").read_text(encoding="utf-8"))
    for key in ("title", "version", "license", "keywords"):
        assert deposit[key] == citation[key], key
    assert deposit["description"] == citation["abstract"].strip()
    assert [creator["name"] for creator in deposit["creators"]] == [
        author["name"] for author in citation["authors"]
    ]
    (paper,) = deposit["related_identifiers"]
    assert paper["identifier"] in citation["references"][0]["url"]
