"""Digests, versions, atomic files and the cache of compiled code."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from marconi_core import jit, provenance
from marconi_core.files import atomic_path, sha256_file


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "sim").mkdir()
    (tmp_path / "sim" / "a.py").write_text("def f(x):\n    return x + 1\n")
    (tmp_path / "b.py").write_text("B = 1\n")
    monkeypatch.setattr(provenance, "PACKAGE_ROOT", tmp_path)
    forget()
    yield tmp_path
    forget()


def forget() -> None:
    provenance.code_digest.cache_clear()
    provenance.syntax.cache_clear()


def digest(*parts: str) -> str:
    forget()
    return provenance.code_digest(*parts)


def test_comments_and_layout_do_not_change_the_digest(package: Path) -> None:
    before = digest("sim")
    (package / "sim" / "a.py").write_text("# why\ndef f(x):\n\n    return (x + 1)\n")
    assert digest("sim") == before


SAMPLE = '''
"""Text."""
from . import a as b

@cache
async def f(x: int, /, *, y=None, **z) -> "A":
    match x:
        case {"a": [1, *_], **rest} | A(b=2): return None
        case _: return
    async with open(f"{x!r:>{y}}" "b" f"{y=}") as file, g: ...
    try: del x[1:], y
    except* E as e: raise e from None
    return {**z, 1: (), 2: [], 3: lambda: (yield), 4: 1_000.5j, 5: b"a", 6: ...}
'''


def test_the_digest_is_the_same_on_every_python(tmp_path: Path) -> None:
    """This was computed with 3.11, 3.12 and 3.13, whose `ast.dump` differ."""
    (tmp_path / "a.py").write_text(SAMPLE)
    assert provenance.folder_digest(tmp_path) == "6bc250c49ad284da"


def test_what_is_empty_is_not_what_is_absent(tmp_path: Path) -> None:
    sources = [
        "return",
        "return None",
        "return ()",
        "return []",
        "return {}",
        "return {**x}",
        "return ''",
    ]
    for i, source in enumerate(sources):
        (tmp_path / f"{i}.py").write_text(f"def f():\n    {source}\n")
    assert len({provenance.syntax(path) for path in tmp_path.iterdir()}) == len(sources)


def test_an_edit_changes_only_the_digests_of_its_dependants(package: Path) -> None:
    sim, both, other = digest("sim"), digest("sim", "b"), digest("b")
    (package / "sim" / "a.py").write_text("def f(x):\n    return x + 2\n")
    assert digest("sim") != sim and digest("sim", "b") != both and digest("b") == other


def test_code_elsewhere_has_a_digest_wherever_it_is(tmp_path: Path) -> None:
    for name in ("here", "there"):
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / "sub" / "a.py").write_text("A = 1\n")
    here, there = (provenance.folder_digest(tmp_path / name) for name in ("here", "there"))
    assert here == there
    (tmp_path / "there" / "sub" / "a.py").write_text("A = 2\n")
    forget()
    assert provenance.folder_digest(tmp_path / "there") != here


def test_a_renamed_part_is_an_error(package: Path) -> None:
    with pytest.raises(FileNotFoundError):
        digest("gone")


def test_rows_carry_what_made_them(package: Path) -> None:
    columns = provenance.provenance_columns("of the trace", "sim", "b")
    assert columns["trace_digest"] == "of the trace"
    assert columns["code_digest"] == digest("sim", "b")
    versions = {f"{name}_version" for name in ("marconi", "python", "numba", "numpy")}
    assert columns.keys() == versions | {"trace_digest", "code_digest"}


def test_versions_name_what_changes_results() -> None:
    assert {"marconi", "python", "numba", "numpy"} <= set(provenance.versions())
    assert "absent" not in provenance.versions().values()


def test_files_appear_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "new" / "result.txt"
    with atomic_path(target) as partial:
        partial.write_text("whole")
        assert not target.exists() and partial.suffix == ".txt"
    assert target.read_text() == "whole"
    with pytest.raises(ZeroDivisionError), atomic_path(target) as partial:
        partial.write_text(f"half {1 / 0}")
    assert target.read_text() == "whole" and list(target.parent.iterdir()) == [target]
    assert sha256_file(target) == hashlib.sha256(b"whole").hexdigest()


def test_new_files_have_the_usual_permissions(tmp_path: Path) -> None:
    umask = os.umask(0o022)
    try:
        with atomic_path(tmp_path / "a") as partial:
            partial.write_text("")
    finally:
        os.umask(umask)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644


def test_compiled_code_is_cached_by_the_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jit, "PACKAGE_ROOT", tmp_path)
    monkeypatch.setattr(jit, "SOURCES", ("policies",))
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    (tmp_path / "policies").mkdir()
    source = tmp_path / "policies" / "score.py"

    def folder() -> str:
        jit._cache_folder.cache_clear()
        return jit._cache_folder()

    source.write_text("A = 1")
    one = folder()
    source.write_text("A = 2")
    two = folder()
    jit._cache_folder.cache_clear()
    assert one != two
