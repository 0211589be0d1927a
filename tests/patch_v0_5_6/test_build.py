"""Building the patched wheel: what comes out, and what is refused."""

import base64
import csv
import hashlib
import importlib.util
import io
import shutil
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

HERE = Path(__file__).parents[2] / "sglang_patch" / "v0.5.6.post2"


@pytest.fixture(scope="module")
def builder() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_sglang_0_5_6", HERE / "build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def wheel(builder: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        return builder.fetch(tmp_path_factory.mktemp("wheel"))
    except builder.DataError as error:
        pytest.skip(str(error))


def fake_wheel(folder: Path, version: str) -> Path:
    path = folder / f"sglang-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            f"sglang-{version}.dist-info/METADATA", f"Name: sglang\nVersion: {version}\n"
        )
    return path


def test_another_release_is_refused(builder: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(
        builder.BuildError, match=r"SGLang 0\.5\.7; the patches are for 0\.5\.6\.post2"
    ):
        builder.build(tmp_path / "out", fake_wheel(tmp_path, "0.5.7"))
    assert not (tmp_path / "out").exists()


def test_another_file_is_refused(builder: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(builder.BuildError, match="not the published wheel"):
        builder.build(tmp_path / "out", fake_wheel(tmp_path, "0.5.6.post2"))


def test_no_wheel_at_all_is_refused(builder: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "a.whl").write_text("text")
    with pytest.raises(builder.BuildError, match="not a wheel"):
        builder.build(tmp_path / "out", tmp_path / "a.whl")


@pytest.mark.network
def test_a_patch_that_does_not_apply_is_refused(
    builder: ModuleType, wheel: Path, tmp_path: Path
) -> None:
    good = HERE / "patches" / "0004-max-mamba-cache-size.patch"
    bad = tmp_path / good.name
    bad.write_text(
        good.read_text().replace("max_mamba_cache_size = 512", "max_mamba_cache_size = 5")
    )
    with pytest.raises(
        builder.BuildError, match=r"0004-.* does not apply to SGLang 0\.5\.6\.post2"
    ):
        builder.build(tmp_path / "out", wheel, [bad])
    assert not (tmp_path / "out").exists()


@pytest.mark.network
def test_the_wheel_is_whole_and_says_what_was_changed(
    builder: ModuleType, wheel: Path, tmp_path: Path
) -> None:
    manifest = builder.build(tmp_path / "out", wheel)
    built = tmp_path / "out" / manifest["result"]["wheel"]
    assert manifest["sglang"]["sha256"] == builder.sha256_file(wheel)
    assert manifest["result"]["sha256"] == builder.sha256_file(built)
    assert len(manifest["changed"]) == 5 and len(manifest["added"]) == 3
    with zipfile.ZipFile(built) as new, zipfile.ZipFile(wheel) as old:
        info = "sglang-0.5.6.post2+marconi.1.dist-info"
        rows = list(csv.reader(io.StringIO(new.read(f"{info}/RECORD").decode())))
        assert sorted(row[0] for row in rows) == sorted(new.namelist())
        for name, digest, size in rows[:-1]:
            content = new.read(name)
            found = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            assert (digest, size) == (f"sha256={found}", str(len(content)))
        untouched = set(old.namelist()) & set(new.namelist()) - set(manifest["changed"])
        assert all(new.read(name) == old.read(name) for name in untouched)
        assert len(untouched) > 1000
        for name in manifest["changed"]:
            assert b"was changed for Marconi" in new.read(name)
        metadata = new.read(f"{info}/METADATA").decode()
        assert "\nVersion: 0.5.6.post2+marconi.1\n" in metadata
        assert "Requires-Dist: marconi-sglang\n" in metadata


@pytest.mark.network
def test_the_same_input_gives_the_same_wheel_inside_a_repository_too(
    builder: ModuleType, wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = builder.build(tmp_path / "one", wheel)
    monkeypatch.chdir(HERE)
    monkeypatch.setenv("GIT_DIR", str(HERE.parents[1] / ".git"))
    assert builder.build(tmp_path / "two", wheel) == first
    shutil.rmtree(tmp_path / "one")
