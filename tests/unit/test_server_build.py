"""A server's wheels: complete, the same bytes each time, installable; what is refused."""

import base64
import csv
import hashlib
import io
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path
from typing import Any

import pytest

from marconi_core.files import sha256_file
from marconi_core.serving import wheels
from marconi_core.serving.__main__ import main
from marconi_core.serving.build import OWN, apply, build, releases
from marconi_core.serving.errors import BuildError

PATCH = """\
A notice that this file was changed.
---
diff --git a/sglang/greeting.py b/sglang/greeting.py
--- a/sglang/greeting.py
+++ b/sglang/greeting.py
@@ -1,2 +1,3 @@
+# This file was changed for Marconi.
 def greet():
-    return "stock"
+    return "patched"
"""

INSTALLED = """
import importlib.metadata, importlib.util, sys, types

(point,) = importlib.metadata.entry_points(group="sglang.srt.plugins")
from marconi_sglang import SGLANG_VERSION
if found := importlib.util.find_spec("sglang"):
    # its top-level __init__ is left out: it imports what is not installed here
    sys.modules["sglang"] = types.ModuleType("sglang")
    sys.modules["sglang"].__path__ = found.submodule_search_locations
    from sglang.srt.marconi import SGLANG_VERSION
print(SGLANG_VERSION, point.value)
"""
"""What the patched module says, or the plug-in, and its entry point."""


def publish(folder: Path, version: str) -> Path:
    """Write the wheel of a very small SGLang."""
    path = folder / f"sglang-{version}-py3-none-any.whl"
    info = f"sglang-{version}.dist-info"
    metadata = f"Metadata-Version: 2.4\nName: sglang\nVersion: {version}\n"
    metadata += "License-File: LICENSE\nRequires-Dist: numpy\n\nText.\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("sglang/__init__.py", "")
        archive.writestr("sglang/srt/__init__.py", "")
        archive.writestr("sglang/greeting.py", 'def greet():\n    return "stock"\n')
        archive.writestr(f"{info}/licenses/LICENSE", "Apache-2.0\n")
        archive.writestr(f"{info}/METADATA", metadata)
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


def package(folder: Path, name: str) -> None:
    module = name.replace("-", "_")
    (folder / module).mkdir(parents=True)
    (folder / module / "__init__.py").write_text("")
    (folder / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        f'[project]\nname = "{name}"\nversion = "1.0"\n'
        f'[tool.hatch.build.targets.wheel]\npackages = ["{module}"]\n'
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with one release that is patched, 9.8, and one that is not, 9.9."""
    root = tmp_path / "checkout"
    for name, source in OWN.items():
        package(root / source, name)
    for release in ("9.8", "9.9"):
        folder = root / "sglang_patch" / f"v{release}"
        folder.mkdir()
        digest = sha256_file(publish(tmp_path, release))
        pin = f"# Its wheel.\nsglang=={release} --hash=sha256:{digest}\n"
        (folder / "sglang.txt").write_text(pin)
    patched = root / "sglang_patch" / "v9.8"
    (patched / "NOTICE").write_text("changed\n")
    (patched / "marconi").mkdir()
    (patched / "marconi" / "__init__.py").write_text("ADDED = True\n")
    (patched / "patches").mkdir()
    (patched / "patches" / "0001-greeting.patch").write_text(PATCH)
    return root


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """The wheel of 9.8, where `checkout` found it."""
    return tmp_path / "sglang-9.8-py3-none-any.whl"


def check_record(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (record,) = (name for name in archive.namelist() if name.endswith("/RECORD"))
        rows = list(csv.reader(io.StringIO(archive.read(record).decode())))
        assert sorted(row[0] for row in rows) == sorted(archive.namelist())
        for name, digest, size in rows:
            if name != record:
                content = archive.read(name)
                found = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=")
                assert (digest, size) == (f"sha256={found.decode()}", str(len(content)))


def install(folder: Path, environment: Path) -> Path:
    """Install the wheels that run on any Python; return the environment's own."""
    any_python = [str(wheel) for wheel in sorted(folder.glob("*-none-any.whl"))]
    assert pip_install(environment, *any_python).returncode == 0
    return environment / "bin" / "python"


def pip_install(environment: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Install into a new environment without an index."""
    venv.create(environment, with_pip=False)
    pip = [sys.executable, "-m", "pip", "--python", str(environment), "install", "--quiet"]
    return subprocess.run(
        [*pip, "--no-deps", "--no-index", *words], capture_output=True, text=True, check=False
    )


def test_the_patched_wheel_installs_and_runs(
    checkout: Path, published: Path, tmp_path: Path
) -> None:
    out = tmp_path / "results" / "9.8"
    manifest = build("9.8", out, checkout=checkout, wheel=published)
    built = out / "sglang-9.8+marconi.1-py3-none-any.whl"
    assert manifest["wheels"][built.name] == {
        "version": "9.8+marconi.1",
        "sha256": sha256_file(built),
    }
    assert sorted(manifest["wheels"]) == sorted(path.name for path in out.glob("*.whl"))
    assert len(manifest["wheels"]) == 3
    assert list(manifest["patches"]) == ["0001-greeting.patch"]
    assert list(manifest["changed"]) == ["sglang/greeting.py"]
    assert list(manifest["added"]) == ["sglang/srt/marconi/__init__.py"]
    check_record(built)
    described = wheels.metadata(built)
    assert described.get_all("Requires-Dist") == [*OWN, "numpy"]
    assert described.get_all("License-File") == ["NOTICE", "LICENSE"]
    with zipfile.ZipFile(built) as archive:
        licences = "sglang-9.8+marconi.1.dist-info/licenses"
        assert archive.read(f"{licences}/NOTICE") == b"changed\n"
        assert archive.read(f"{licences}/LICENSE") == b"Apache-2.0\n"

    python = install(out, tmp_path / "environment")
    code = (
        "import marconi_artifact, marconi_sglang, sglang.srt.marconi, sglang.greeting\n"
        "from importlib.metadata import version\n"
        "print(sglang.srt.marconi.ADDED, sglang.greeting.greet(), version('sglang'))"
    )
    ran = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "True patched 9.8+marconi.1\n"


def test_pip_refuses_a_wheel_that_was_changed_after_the_build(
    checkout: Path, published: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    manifest = build("9.8", out, checkout=checkout, wheel=published)
    lines = (out / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert [line.partition("sha256:")[2] for line in lines] == [
        wheel["sha256"] for wheel in manifest["wheels"].values()
    ]
    by_hash = ["--require-hashes", "--find-links", str(out), "-r", str(out / "requirements.txt")]
    assert pip_install(tmp_path / "whole", *by_hash).returncode == 0
    with zipfile.ZipFile(out / "sglang-9.8+marconi.1-py3-none-any.whl", "a") as archive:
        archive.writestr("sglang/backdoor.py", "")
    refusal = pip_install(tmp_path / "changed", *by_hash)
    assert refusal.returncode != 0 and "DO NOT MATCH THE HASHES" in refusal.stderr


def test_a_release_that_loads_plugins_is_left_as_it_is(checkout: Path, tmp_path: Path) -> None:
    stock = tmp_path / "sglang-9.9-py3-none-any.whl"
    manifest = build("9.9", tmp_path / "out", checkout=checkout, wheel=stock)
    assert (tmp_path / "out" / stock.name).read_bytes() == stock.read_bytes()
    assert "changed" not in manifest and len(manifest["wheels"]) == 3


def test_the_same_bytes_each_time_inside_a_repository_too(
    checkout: Path, published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build("9.8", tmp_path / "one", checkout=checkout, wheel=published)
    repository = Path(__file__).parents[2]
    monkeypatch.chdir(repository)
    monkeypatch.setenv("GIT_DIR", str(repository / ".git"))
    (checkout / "sglang_patch/v9.8/marconi/__pycache__").mkdir()
    (checkout / "sglang_patch/v9.8/marconi/__pycache__/x.pyc").touch()
    out = tmp_path / "two"
    assert build("9.8", out, checkout=checkout, wheel=published) == first
    assert build("9.8", out, checkout=checkout, wheel=published) == first  # in place of itself
    files = {path.name for path in out.iterdir()}
    assert files == {*first["wheels"], "manifest.json", "requirements.txt"}
    for name in files:
        assert (out / name).read_bytes() == (tmp_path / "one" / name).read_bytes()


def refused(checkout: Path, out: Path, message: str, **options: Any) -> None:
    with pytest.raises(BuildError, match=message):
        build(options.pop("release", "9.8"), out, checkout=checkout, **options)
    assert not out.exists()
    assert not list(out.parent.glob(".partial-*"))


def test_what_is_refused(checkout: Path, published: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    other = tmp_path / "sglang-9.9-py3-none-any.whl"
    refused(checkout, out, r"SGLang 9\.7: no such folder .* there is 9\.8, 9\.9", release="9.7")
    refused(checkout, out, r"SGLang 9\.9, but 9\.8 is wanted; leave --wheel out", wheel=other)
    altered = tmp_path / "altered.whl"
    shutil.copy(published, altered)
    with zipfile.ZipFile(altered, "a") as archive:
        archive.writestr("sglang/more.py", "")
    refused(checkout, out, "not the published wheel of SGLang", wheel=altered)
    text = tmp_path / "text.whl"
    text.write_text("text")
    refused(checkout, out, "not a wheel", wheel=text)
    refused(checkout, out, "not a wheel", wheel=tmp_path / "nothing.whl")


def test_a_wheel_that_is_patched_already_is_refused(
    checkout: Path, published: Path, tmp_path: Path
) -> None:
    build("9.8", tmp_path / "first", checkout=checkout, wheel=published)
    built = tmp_path / "first" / "sglang-9.8+marconi.1-py3-none-any.whl"
    refused(checkout, tmp_path / "out", "is patched already; leave --wheel out", wheel=built)


def test_a_patch_that_does_not_apply_is_refused(
    checkout: Path, published: Path, tmp_path: Path
) -> None:
    patch = checkout / "sglang_patch/v9.8/patches/0001-greeting.patch"
    patch.write_text(PATCH.replace('"stock"', '"another release"'))
    message = r"0001-greeting\.patch does not apply: error: patch failed: sglang/greeting\.py:1"
    refused(checkout, tmp_path / "out", message, wheel=published)


def test_a_patch_that_is_applied_already_is_refused(
    checkout: Path, published: Path, tmp_path: Path
) -> None:
    patch = checkout / "sglang_patch/v9.8/patches/0001-greeting.patch"
    wheels.unpack(published, tmp_path / "source")
    assert apply(patch, tmp_path / "source") == ["sglang/greeting.py"]
    with pytest.raises(BuildError, match=r"0001-greeting\.patch is applied already"):
        apply(patch, tmp_path / "source")
    again = patch.with_name("0002-again.patch")
    shutil.copy(patch, again)
    refused(checkout, tmp_path / "out", "0002-again.patch is applied already", wheel=published)


def test_a_wheel_that_cannot_be_fetched_is_named(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    refused(checkout, tmp_path / "out", r"sglang==9\.8: pip could not fetch the wheel")


def test_other_folders_are_not_replaced(checkout: Path, published: Path, tmp_path: Path) -> None:
    kept = tmp_path / "mine" / "kept"
    kept.parent.mkdir()
    kept.touch()
    with pytest.raises(BuildError, match="is not empty and no earlier build"):
        build("9.8", kept.parent, checkout=checkout, wheel=published)
    assert kept.exists()


def test_a_package_that_cannot_be_built_is_named(
    checkout: Path, published: Path, tmp_path: Path
) -> None:
    (checkout / "pyproject.toml").write_text("[project]\n")
    refused(checkout, tmp_path / "out", "marconi-artifact: hatchling could not", wheel=published)


def test_the_command_ends_with_one_line(
    checkout: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(checkout)
    assert main(["build", "out", "--sglang", "1.0"]) == 2
    assert capsys.readouterr().err.startswith("marconi: SGLang 1.0: no such folder")


def test_releases_are_those_of_the_checkout(repository: Path) -> None:
    assert releases(repository) == ["0.5.16", "0.5.6.post2"]
    assert releases(repository / "tests") == []


@pytest.mark.sources
@pytest.mark.network
@pytest.mark.parametrize("release", ["0.5.16", "0.5.6.post2"])
def test_real_servers(repository: Path, release: str, tmp_path: Path) -> None:
    """SGLang's own wheels: nothing but what the manifest names is changed; the result installs."""
    try:
        manifest = build(release, tmp_path / "out", checkout=repository)
    except BuildError as error:
        if "pip could not fetch" in str(error):
            pytest.skip(str(error))
        raise
    (built,) = (tmp_path / "out").glob("sglang-*.whl")
    changed, added = manifest.get("changed", {}), manifest.get("added", {})
    if release == "0.5.16":
        assert sha256_file(built) == manifest["sglang"]["sha256"] and not changed
    else:
        check_record(built)
        assert len(changed) >= 5 and "sglang/srt/marconi/cache.py" in added
        notice = (repository / f"sglang_patch/v{release}/NOTICE").read_text(encoding="utf-8")
        assert [name for name in changed if name not in notice] == []
        with zipfile.ZipFile(built) as archive:
            for name in changed:
                assert b"was changed for Marconi" in archive.read(name)
    python = install(tmp_path / "out", tmp_path / "environment")
    ran = subprocess.run([python, "-I", "-c", INSTALLED], capture_output=True, text=True)
    assert ran.stdout.split() == [release, "marconi_sglang.plugin:register"], ran.stderr
