"""Compilation of the hot loops: numba, with a disk cache that cannot go stale.

Why numba and not C: a reviewer needs no compiler, and numba emits no fused multiply-add unless
asked, which the paper-exact scores rely on. numba's own cache does not notice an edit to a function
that a compiled one calls in another file, so the cache folder is named by a digest of all sources.
"""

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numba
from numba.misc.appdirs import user_cache_dir  # GPU nodes have numba, but not pooch

PACKAGE_ROOT = Path(__file__).parent
SOURCES = ("jit.py", "models", "policies", "sim", "traces")
"""Files and folders with compiled functions, or functions that those call."""


@lru_cache
def _cache_folder() -> str:
    """Return NUMBA_CACHE_DIR, or a user-wide folder for exactly these sources."""
    if given := os.environ.get("NUMBA_CACHE_DIR"):
        return given
    digest = hashlib.sha256()
    for source in SOURCES:
        path = PACKAGE_ROOT / source
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(file.read_bytes())
    folder = Path(user_cache_dir("marconi")) / "compiled" / digest.hexdigest()[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:  # no home to write to: each process compiles anew
        return tempfile.mkdtemp(prefix="marconi-compiled-")
    return str(folder)


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile `function` on first call, keep the machine code on disk, release the GIL.

    Division by zero gives inf or nan as in numpy; callers must rule it out.
    """
    with _disk_cache():
        return numba.njit(cache=True, nogil=True, error_model="numpy")(function)


@lru_cache
def compiled_pointer(function: Callable[..., Any], signature: Any) -> Any:
    """Compile `function` to an argument of compiled functions; all of one signature share their code."""
    with _disk_cache():
        return numba.cfunc(signature, cache=True)(function)


@contextmanager
def _disk_cache() -> Iterator[None]:
    config: Any = numba.config  # its attributes are made at run time
    previous = config.CACHE_DIR
    config.CACHE_DIR = _cache_folder()
    try:
        yield
    finally:
        config.CACHE_DIR = previous
