"""What a result row must carry to be traced back: a digest of the code that made it, and versions."""

import ast
import hashlib
import platform
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import marconi_core
from marconi_core.assets import resource

PACKAGE_ROOT = Path(marconi_core.__file__).parent


@lru_cache
def code_digest(*parts: str) -> str:
    """Return a hex digest of named parts of `marconi_core`: syntax trees, and bytes of what is not code.

    A part is a module or package path relative to the package, e.g. ``"sim"`` or ``"traces/tree"``, or
    a folder of resources, ``"resources/expected"``. Comments and formatting do not change the digest, so
    they rerun nothing; any real edit does.

    Raises:
        FileNotFoundError: a part does not exist (a renamed module must not silently drop out).
    """
    content: list[bytes] = []
    for part in sorted(parts):
        top, _, below = part.partition("/")
        root = resource(below) if top == "resources" else PACKAGE_ROOT / part
        files = _files(root) if root.is_dir() else [root.with_suffix(".py")]
        content += _content(part, root, files)
    return _digest(content)


def folder_digest(folder: Path) -> str:
    """Return such a digest of all modules below a folder, for code outside this package."""
    return _digest(_content("", folder, sorted(folder.rglob("*.py"))))


def _digest(content: Iterable[bytes]) -> str:
    return hashlib.sha256(b"".join(content)).hexdigest()[:16]


def _files(folder: Path) -> list[Path]:
    """Return all files below a folder but what Python leaves there."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in found if "__pycache__" not in path.parts)


def _content(part: str, root: Path, files: Iterable[Path]) -> Iterator[bytes]:
    """Yield name and content of files below `root`, or of the one that it is."""
    for file in files:
        below = file.relative_to(root) if root.is_dir() else ""
        yield (Path(part) / below).as_posix().encode()
        yield syntax(file) if file.suffix == ".py" else file.read_bytes()


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
