"""The offline bundle: same bytes, complete, refused where it does not fit."""

import hashlib
import json
import os
import platform
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from marconi_core.assets import resource
from marconi_core.files import sha256_file
from marconi_core.serving import bundle
from marconi_core.serving.__main__ import main
from marconi_core.serving.bundle import keep_kernels, pack, pins, unpack
from marconi_core.serving.errors import BundleError

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"


def wheel(folder: Path, name: str, files: dict[str, str]) -> str:
    """Write a wheel; return its line of a requirements file."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in files.items():
            archive.writestr(member, content)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return f"{name}==1.0 \\\n    --hash=sha256:{digest}\n"


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two wheels, and a description of a bundle of them for this very Python."""
    folder = tmp_path / "wheels"
    first = wheel(folder, "first", {"first/__init__.py": "x = 1", "first/test/big.py": "no"})
    second = wheel(folder, "second", {"second.py": "y = 2"})
    source = tmp_path / "sglang-9.9"
    (source / "stubs").mkdir(parents=True)
    (source / "stubs" / "stub.py").write_text("z = 3")
    (source / "requirements.txt").write_text(f"# comment\n{first}{second}")
    description = {
        "python": HERE,
        "platform": platform.machine(),
        "node": {"pytest": pytest.__version__},
        "leave_out": ["*/test/*"],
        "strip": [],
    }
    (source / "bundle.json").write_text(json.dumps(description))
    monkeypatch.setattr(bundle, "resource", lambda name: tmp_path / name)
    return folder


def packed(folder: Path, wheels: Path, kernels: Path | None = None) -> Path:
    pack(folder, sglang="9.9", wheels=wheels, kernels=kernels)
    return folder


def test_what_was_packed_comes_out(tmp_path: Path, wheels: Path) -> None:
    site = tmp_path / "site"
    assert unpack(packed(tmp_path / "bundle", wheels), site)
    files = {path.relative_to(site).as_posix() for path in site.rglob("*") if path.is_file()}
    assert files == {"first/__init__.py", "second.py", "stub.py", bundle.MARKER}
    code = "import first, second, stub; print(first.x, second.y, stub.z)"
    command = [sys.executable, "-c", code]
    seen = subprocess.check_output(command, env={**os.environ, "PYTHONPATH": str(site)}, text=True)
    assert seen == "1 2 3\n"


def test_the_same_wheels_give_the_same_bytes(tmp_path: Path, wheels: Path) -> None:
    first, second = packed(tmp_path / "a", wheels), packed(tmp_path / "b", wheels)
    assert (first / "site.tar.xz").read_bytes() == (second / "site.tar.xz").read_bytes()
    assert (first / "bundle.json").read_bytes() == (second / "bundle.json").read_bytes()


@pytest.mark.sources
def test_a_plug_in_travels_with_its_entry_point(
    tmp_path: Path, wheels: Path, repository: Path
) -> None:
    pack(tmp_path / "b", sglang="9.9", wheels=wheels, plugin=repository / "sglang_patch")
    unpack(tmp_path / "b", tmp_path / "site")
    (entry_points,) = tmp_path.glob("site/marconi_sglang-*.dist-info/entry_points.txt")
    assert "marconi = marconi_sglang.plugin:register" in entry_points.read_text()
    assert (tmp_path / "site" / "marconi_sglang" / "plugin.py").is_file()


def test_a_plug_in_that_is_none_is_named(tmp_path: Path, wheels: Path) -> None:
    with pytest.raises(BundleError, match=r"has no pyproject\.toml"):
        pack(tmp_path / "b", sglang="9.9", wheels=wheels, plugin=wheels)


def test_unpacking_again_does_nothing_and_a_new_bundle_replaces(
    tmp_path: Path, wheels: Path
) -> None:
    site, folder = tmp_path / "site", packed(tmp_path / "bundle", wheels)
    unpack(folder, site)
    assert not unpack(folder, site)
    (tmp_path / "sglang-9.9" / "stubs" / "stub.py").rename(
        tmp_path / "sglang-9.9" / "stubs" / "new.py"
    )
    assert unpack(packed(folder, wheels), site)
    assert (site / "new.py").exists() and not (site / "stub.py").exists()


def test_another_folder_is_not_overwritten(tmp_path: Path, wheels: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("dear")
    with pytest.raises(BundleError, match="not empty and no unpacked bundle"):
        unpack(packed(tmp_path / "bundle", wheels), tmp_path / "home")
    assert (tmp_path / "home" / "thesis.tex").read_text() == "dear"


def test_damage_is_named(tmp_path: Path, wheels: Path) -> None:
    folder = packed(tmp_path / "bundle", wheels)
    with (folder / "site.tar.xz").open("ab") as file:
        file.write(b"x")
    with pytest.raises(BundleError, match=r"site\.tar\.xz is missing or damaged"):
        unpack(folder, tmp_path / "site")
    with pytest.raises(BundleError, match="no bundle is there"):
        unpack(tmp_path / "nothing", tmp_path / "site")


def test_an_interrupted_unpacking_is_begun_again(
    tmp_path: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, site = packed(tmp_path / "bundle", wheels), tmp_path / "site"

    def interrupted(tar: tarfile.TarFile, target: Path, **options: object) -> None:
        (target / "half.py").touch()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tarfile.TarFile, "extractall", interrupted)
        with pytest.raises(KeyboardInterrupt):
            unpack(folder, site)
    assert unpack(folder, site)
    assert (site / "second.py").exists() and not (site / "half.py").exists()


@pytest.mark.parametrize(
    ("name", "kind", "target"),
    [
        ("../evil", tarfile.REGTYPE, ""),
        ("evil", tarfile.SYMTYPE, "/etc"),
        ("evil", tarfile.LNKTYPE, "../../secret"),
        ("evil", tarfile.FIFOTYPE, ""),
    ],
)
def test_nothing_is_unpacked_outside_the_folder(
    name: str, kind: bytes, target: str, tmp_path: Path, wheels: Path
) -> None:
    folder = packed(tmp_path / "bundle", wheels)
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    with tarfile.open(folder / "site.tar.xz", "w:xz") as tar:
        tar.addfile(member)
    manifest = json.loads((folder / "bundle.json").read_text())
    manifest["sha256"]["site.tar.xz"] = sha256_file(folder / "site.tar.xz")
    (folder / "bundle.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=r"site\.tar\.xz: refused"):
        unpack(folder, tmp_path / "site")
    assert not list(tmp_path.rglob("evil*"))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("python", "2.7", r"the bundle is for Python 2\.7"),
        ("platform", "vax", "on vax, this is"),
        ("node", {"pytest": "0.1"}, r"must have pytest 0\.1 itself, found "),
        ("node", {"no_such_package": "1"}, "must have no_such_package 1 itself, found none"),
    ],
)
def test_a_node_that_does_not_fit_is_refused(
    key: str, value: object, message: str, tmp_path: Path, wheels: Path
) -> None:
    folder = packed(tmp_path / "bundle", wheels)
    manifest = json.loads((folder / "bundle.json").read_text())
    (folder / "bundle.json").write_text(json.dumps({**manifest, key: value}))
    with pytest.raises(BundleError, match=message):
        unpack(folder, tmp_path / "site")
    assert not (tmp_path / "site").exists()


def test_a_wheel_with_other_bytes_is_not_packed(
    tmp_path: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel(wheels, "second", {"second.py": "y = 'another'"})
    asked: list[list[str]] = []

    def offline(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        return subprocess.CompletedProcess(command, 1, "ERROR: No matching distribution\n")

    monkeypatch.setattr(subprocess, "run", offline)
    with pytest.raises(BundleError, match=r"No matching distribution.*put the wheels into"):
        packed(tmp_path / "bundle", wheels)
    assert "--require-hashes" in asked[0] and "--no-deps" in asked[0]
    monkeypatch.setattr(
        subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 0, "")
    )
    with pytest.raises(BundleError, match=r"no file is the pinned wheel of second 1\.0"):
        packed(tmp_path / "bundle", wheels)


def test_files_outside_the_package_are_not_lost_silently(tmp_path: Path, wheels: Path) -> None:
    line = wheel(wheels, "third", {"third-1.0.data/purelib/third.py": "t = 1"})
    with (tmp_path / "sglang-9.9" / "requirements.txt").open("a") as file:
        file.write(line)
    with pytest.raises(BundleError, match="outside the package"):
        packed(tmp_path / "bundle", wheels)


def test_kernels_travel_with_whole_seconds_and_without_locks(tmp_path: Path, wheels: Path) -> None:
    kernels = tmp_path / "kernels"
    (kernels / "triton").mkdir(parents=True)
    for name in ("a.so", "a.lock"):
        (kernels / "triton" / name).write_text("code")
        os.utime(kernels / "triton" / name, ns=(0, 1_800_000_000_987_654_321))
    keep_kernels(kernels, tmp_path / "kept.tar.xz")
    with tarfile.open(tmp_path / "kept.tar.xz") as tar:
        assert [(m.name, m.mtime) for m in tar if m.isfile()] == [("triton/a.so", 1_800_000_000)]
        assert tar.pax_headers == {}
    folder = packed(tmp_path / "bundle", wheels, tmp_path / "kept.tar.xz")
    assert unpack(folder, tmp_path / "site", tmp_path / "there")
    assert os.stat(tmp_path / "there" / "triton" / "a.so").st_mtime_ns == 1_800_000_000 * 10**9


def test_no_kernels_no_archive(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="holds no kernels"):
        keep_kernels(tmp_path / "kernels", tmp_path / "kept.tar.xz")
    assert not (tmp_path / "kept.tar.xz").exists()


def test_pins_must_have_a_digest(tmp_path: Path) -> None:
    (tmp_path / "r.txt").write_text("sglang==0.5.16\n")
    with pytest.raises(BundleError, match=r"not NAME==VERSION --hash.*'sglang==0\.5\.16'"):
        pins(tmp_path / "r.txt")


def test_the_real_description_is_whole() -> None:
    source = resource("sglang-0.5.16")
    wanted = {pin.name: pin.version for pin in pins(source / "requirements.txt")}
    assert wanted["sglang"] == "0.5.16" and len(wanted) == 35
    description = json.loads((source / "bundle.json").read_text())
    assert set(description) == {"python", "platform", "node", "leave_out", "strip"}
    assert {path.name for path in (source / "stubs").iterdir()} - {"__pycache__"} == {
        "IPython",
        "datasets",
        "soundfile.py",
    }


@pytest.mark.sources
def test_unpacking_needs_a_bare_python_only(repository: Path) -> None:
    """As on a node before its first unpacking: no site packages at all."""
    code = "import sys; sys.argv[1:] = ['unpack', 'nowhere', '--site', 'x']; "
    code += "from marconi_core.serving.__main__ import main; sys.exit(main())"
    command = [sys.executable, "-S", "-c", code]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("marconi: nowhere: no bundle is there")


def test_the_command_line_packs_and_unpacks(
    tmp_path: Path, wheels: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, site = str(tmp_path / "bundle"), str(tmp_path / "site")
    assert main(["pack", folder, "--sglang", "9.9", "--wheels", str(wheels)]) == 0
    assert main(["unpack", folder, "--site", site]) == 0
    assert main(["unpack", folder, "--site", site]) == 0
    assert capsys.readouterr().out.endswith("unpacked already\n")
    assert main(["pack", folder, "--sglang", "1.0"]) == 2
    assert "no bundle description for SGLang 1.0" in capsys.readouterr().err
