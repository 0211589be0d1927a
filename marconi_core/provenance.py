"""What a result row must carry to be traced back: a digest of the code that made it, and versions."""

import ast
import hashlib
import platform
from collections.abc import Iterable
from functools import cache, lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import marconi_core

PACKAGE_ROOT = Path(marconi_core.__file__).parent


@lru_cache
def code_digest(*parts: str) -> str:
    """Return a hex digest of the syntax trees of the named parts of `marconi_core`.

    A part is a module or package path relative to the package, e.g. ``"sim"`` or ``"traces/tree"``.
    Comments and formatting do not change the digest, so they rerun nothing; any real edit does.

    Raises:
        FileNotFoundError: a part does not exist (a renamed module must not silently drop out).
    """
    files = []
    for part in sorted(parts):
        root = PACKAGE_ROOT / part
        files += sorted(root.rglob("*.py")) if root.is_dir() else [root.with_suffix(".py")]
    return _digest(files, PACKAGE_ROOT)


def folder_digest(folder: Path) -> str:
    """Return such a digest of all modules below a folder, for code outside this package."""
    return _digest(sorted(folder.rglob("*.py")), folder)


def _digest(files: Iterable[Path], root: Path) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.relative_to(root).as_posix().encode())
        digest.update(syntax(file))
    return digest.hexdigest()[:16]


@cache  # many rules use the same modules, and every job parses all rules anew
def syntax(file: Path) -> bytes:
    """Return a module's syntax tree without comments, as bytes to digest.

    They are the same whichever Python runs: a newer one has more kinds of parts, but none where nothing is
    written. So what was made on one machine is not made again on another.
    """
    return repr(_written(ast.parse(file.read_text(encoding="utf-8")))).encode()


def _written(part: object) -> object:
    """Return a part of a syntax tree as nested tuples, without what is empty."""
    if isinstance(part, ast.JoinedStr):
        # Python 3.12.0 to 3.12.3 end a nested format with an empty text
        texts = (value for value in part.values if getattr(value, "value", None) != "")
        return "JoinedStr", tuple(_written(text) for text in texts)
    if isinstance(part, ast.AST):
        fields = ((name, _written(value)) for name, value in ast.iter_fields(part))
        return type(part).__name__, *(field for field in fields if field[1] not in (None, ()))
    if isinstance(part, list):
        return tuple(_written(item) for item in part)
    return part


def provenance_columns(trace_digest: str, *parts: str) -> dict[str, str]:
    """Return what every row of a sweep carries: digests of trace and code, and versions.

    Args:
        trace_digest: `Trace.digest` of what was replayed.
        parts: the code that replayed it, as `code_digest` takes it.

    Raises:
        FileNotFoundError: a part does not exist.
    """
    found = versions()
    return {
        "trace_digest": trace_digest,
        "code_digest": code_digest(*parts),
        **{f"{name}_version": found[name] for name in ("marconi", "python", "numba", "numpy")},
    }


@lru_cache
def versions() -> dict[str, str]:
    """Return the versions that can change a number or a byte of the results."""
    found = {"marconi": marconi_core.__version__, "python": platform.python_version()}
    for package in ("numba", "numpy", "pandas", "pyarrow", "tokenizers", "matplotlib"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found
