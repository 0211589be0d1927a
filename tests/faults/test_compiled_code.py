"""Compiled code on disk: what interrupted, mixed-up and full caches must not do to numbers."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from marconi_core import jit
from tests.faults.conftest import Mount

MODULE = """
from marconi_core import jit

@jit.compiled
def half_more(number):
    return number / 2 + number
"""

Load = Callable[[Path], ModuleType]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Import a module with one compiled function, as a new process would, with this cache."""
    path = tmp_path / "functions.py"
    path.write_text(MODULE, encoding="utf-8")

    def load(cache: Path) -> ModuleType:
        monkeypatch.setattr(jit, "_cache_folder", lambda: str(cache))
        spec = importlib.util.spec_from_file_location("functions", path)
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


def hits(module: ModuleType) -> int:
    return sum(module.half_more.stats.cache_hits.values())


def test_code_of_another_signature_is_not_run(load: Load, tmp_path: Path) -> None:
    """What a process leaves that is killed after the index of a cache, and before the code."""
    first = load(tmp_path / "cache")
    assert (first.half_more(3), first.half_more(3.5)) == (4.5, 5.25)
    file = first.half_more._cache._cache_file
    index = file._load_index()
    assert len(index) == 2
    file._save_index(dict.fromkeys(index, min(index.values())))  # that of whole numbers

    second = load(tmp_path / "cache")
    assert second.half_more(3.5) == 5.25 and hits(second) == 0
    third = load(tmp_path / "cache")
    assert third.half_more(3.5) == 5.25 and hits(third) == 1, "the right code is kept"


@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
@pytest.mark.parametrize("length", [0, 10])
def test_damaged_caches_are_made_anew(
    load: Load, tmp_path: Path, caplog: pytest.LogCaptureFixture, suffix: str, length: int
) -> None:
    assert load(tmp_path / "cache").half_more(3.5) == 5.25
    (damaged,) = (tmp_path / "cache").rglob(f"*.{suffix}")
    with damaged.open("r+b") as file:
        file.truncate(length)
    second = load(tmp_path / "cache")
    assert second.half_more(3.5) == 5.25 and hits(second) == 0
    assert "damaged compiled code is made anew" in caplog.text
    third = load(tmp_path / "cache")
    assert third.half_more(3.5) == 5.25 and hits(third) == 1


def test_a_cache_on_a_full_disk_is_done_without(
    load: Load, disk: Mount, caplog: pytest.LogCaptureFixture
) -> None:
    assert load(disk("size=4k")).half_more(3.5) == 5.25
    assert "compiled code cannot be kept" in caplog.text


def test_a_cache_on_a_read_only_disk_is_done_without(load: Load, disk: Mount) -> None:
    assert load(disk("ro")).half_more(3.5) == 5.25
