"""Writing and checking files so that an interrupted run leaves nothing half-written."""

import contextlib
import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path

from marconi_core.errors import StorageError

try:
    import fcntl
except ImportError:  # Windows: what a killed writer leaves stays there
    fcntl = None  # type: ignore[assignment]

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
NOT_WRITABLE = frozenset(
    {errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST, errno.EISDIR}
)


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it onto `path` on success, delete it on failure.

    The temporary name keeps the suffixes of `path`, so writers that choose a format by suffix work.
    A writer that is killed leaves its temporary file; the next writer of the same path deletes it.

    Raises:
        StorageError: the disk is full, or the folder cannot be written to.
    """
    target = Path(path)
    with storage_errors(target, NO_ROOM | NOT_WRITABLE):
        target.parent.mkdir(parents=True, exist_ok=True)
        _delete_abandoned(target)
        handle, partial = _partial(target)
    try:
        with storage_errors(target):
            yield partial
        with storage_errors(target, NO_ROOM | NOT_WRITABLE):
            umask = os.umask(0)
            os.umask(umask)
            partial.chmod(0o666 & ~umask)  # mkstemp makes private files; results are for everyone
            os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
        os.close(handle)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file, whole or not at all."""
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike[str], content: object) -> None:
    """Write JSON that diffs well, whole or not at all."""
    write_text(path, json.dumps(content, indent=1, default=str) + "\n")


def sha256_file(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file as lower-case hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def storage_errors(target: Path, codes: Collection[int] = NO_ROOM) -> Iterator[None]:
    """Turn what the disk refuses while `target` is written into a StorageError.

    Args:
        codes: which errors count. While a writer's own code runs, no more than the default: it may
            read other files, which can be unreadable themselves.
    """
    try:
        yield
    except Exception as error:
        refusal = _refusal(error, codes)
        if refusal is None:
            raise
        way_out = "free some space there" if refusal in NO_ROOM else "make its folder writable"
        raise StorageError(
            f"{target}: cannot be written ({os.strerror(refusal)}); {way_out}, or choose another "
            "folder (results_dir or data_dir; TMPDIR for downloads)"
        ) from error


def _refusal(error: BaseException | None, codes: Collection[int]) -> int | None:
    """Return the disk's error code behind an error: writers fail again while they close the file."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in codes:
            return error.errno
        error = error.__cause__ or error.__context__
    return None


def _partial(target: Path) -> tuple[int, Path]:
    """Return a new temporary file of `target`, open and, as long as it is open, locked."""
    while True:
        handle, name = tempfile.mkstemp(
            prefix=".partial-", suffix=f"-{target.name}", dir=target.parent
        )
        _lock(handle, wait=True)
        if os.fstat(handle).st_nlink:
            return handle, Path(name)
        os.close(handle)  # taken for abandoned before it was locked


def _delete_abandoned(target: Path) -> None:
    """Delete the temporary files of `target` that nobody holds: their writers were killed."""
    for path in target.parent.glob(f".partial-*-{escape(target.name)}"):
        with contextlib.suppress(OSError):  # gone already
            handle = os.open(path, os.O_RDWR)
            try:
                if _lock(handle):
                    path.unlink()
            finally:
                os.close(handle)


def _lock(handle: int, wait: bool = False) -> bool:
    """Try to lock an open file for this process; the lock ends with the process, however that ends."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except (OSError, AttributeError):  # held by another, or no locks here
        return False
    return True
