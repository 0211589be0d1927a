"""Compilation of the hot loops: numba, with a disk cache that cannot go stale.

Why numba and not C: a reviewer needs no compiler, and numba emits no fused multiply-add unless
asked, which the paper-exact scores rely on. numba's own cache does not notice an edit to a function
that a compiled one calls in another file, so the cache folder is named by a digest of all sources;
and what numba finds there is checked, since nothing may depend on a cache.
"""

import atexit
import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import FunctionCache
from numba.core.ccallback import CFunc
from numba.core.sigutils import normalize_signature
from numba.misc.appdirs import user_cache_dir  # GPU nodes have numba, but not pooch

logger = logging.getLogger(__name__)

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
        temporary = tempfile.mkdtemp(prefix="marconi-compiled-")
        atexit.register(shutil.rmtree, temporary, ignore_errors=True)
        return temporary
    return str(folder)


class _DiskCache(FunctionCache):
    """numba's cache of one function, without what can go wrong on a disk.

    numba writes the index of signatures first and the code after it. A process that is killed
    between the two, or two processes at once, leave an index entry with the code of another
    signature: numba alone would run that, and compute other numbers.
    """

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            found = super().load_overload(sig, target_context)
        except Exception as error:  # whatever a damaged pickle raises
            logger.warning("damaged compiled code is made anew: %s (%s)", self.cache_path, error)
            self._kept(self.flush)
            return None
        wanted, _ = normalize_signature(sig)
        return found if found and tuple(found.signature.args) == tuple(wanted) else None

    def save_overload(self, sig: Any, data: Any) -> None:
        self._kept(super().save_overload, sig, data)

    def _kept(self, write: Callable[..., None], *arguments: Any) -> None:
        """Call what writes to the disk; go on without, if it is full or read-only."""
        try:
            write(*arguments)
        except OSError as error:
            _warn_once(f"compiled code cannot be kept: {_cache_folder()} ({error.strerror})")


@lru_cache
def _warn_once(message: str) -> None:
    logger.warning(message)


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile `function` on first call, keep the machine code on disk, release the GIL.

    Division by zero gives inf or nan as in numpy; callers must rule it out.
    """
    return _compiled(function, counts_references=True)


def in_place(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile, as `compiled` does, a function that makes no arrays and returns none.

    numba counts references to the arrays that a function is given, with an atomic instruction each
    time, and where the function has loops or may raise it cannot see that the counts cancel out:
    this took half of a simulation's time. Here nothing is counted, and numba does not check that
    nothing has to be: an array made here would leak. To call a function that is `compiled` is safe.
    """
    return _compiled(function, counts_references=False)


def _compiled(function: Callable[..., Any], counts_references: bool) -> Callable[..., Any]:
    njit: Any = numba.njit  # its types lack `_nrt`, the run time that counts
    # always said, since a function that says nothing takes it from the one that calls it
    dispatcher = njit(nogil=True, error_model="numpy", _nrt=counts_references)(function)
    with _cache_folder_set():
        dispatcher._cache = _DiskCache(function)  # `cache=True` is this, with FunctionCache
    return dispatcher


@lru_cache
def compiled_pointer(function: Callable[..., Any], signature: Any) -> Any:
    """Compile `function` to an argument of compiled functions; all of one signature share their code."""
    pointer: Any = CFunc(function, normalize_signature(signature), locals={}, options={})
    with _cache_folder_set():
        pointer._cache = _DiskCache(function)
    pointer.compile()  # what numba.cfunc does
    return pointer


@contextmanager
def _cache_folder_set() -> Iterator[None]:
    config: Any = numba.config  # its attributes are made at run time
    previous = config.CACHE_DIR
    config.CACHE_DIR = _cache_folder()
    try:
        yield
    finally:
        config.CACHE_DIR = previous
