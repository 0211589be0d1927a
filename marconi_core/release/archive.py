"""The one file to deposit: a commit's files, their digests and, if wanted, all packages they need.

The same commit gives the same bytes, with the same version of zlib. `make` in an unpacked archive
installs from its folder ``wheels``, if it has one, without network.
"""

import gzip
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

import marconi_core
from marconi_core.errors import ReleaseError
from marconi_core.files import atomic_path, sha256_file
from marconi_core.serving.bundle import plain

NAME = "marconi-artifact"
DIGESTS = "SHA256SUMS"
"""Manifest in the archive, for ``sha256sum --check``."""

LOCK = "requirements.lock"
WHEELS = "wheels"
"""Folder in the archive with the packages of the lock; the Makefile looks there."""

BUILD_TOOLS = ["wheel", "setuptools"]
"""What pip builds those packages with that were published as sources only."""


def archive(out: Path, *, checkout: Path = Path(), pythons: Sequence[str] = ()) -> Path:
    """Write the archive of the checkout's last commit.

    Args:
        out: folder for ``marconi-artifact-VERSION.tar.gz``.
        checkout: root of the repository, with nothing uncommitted.
        pythons: interpreters with pip; the packages that each of them needs travel too.

    Returns:
        The archive.

    Raises:
        ReleaseError: this is no checkout, something is not committed, or a package cannot be had.
    """
    _check_clean(checkout)
    commit = _git(checkout, "rev-parse", "HEAD").decode().strip()
    time = int(_git(checkout, "log", "-1", "--format=%ct"))
    name = f"{NAME}-{marconi_core.__version__}"
    target = out / f"{name}.tar.gz"
    with tempfile.TemporaryDirectory() as temporary, atomic_path(target) as partial:
        tree = Path(temporary, name)
        with tarfile.open(fileobj=io.BytesIO(_git(checkout, "archive", "HEAD"))) as files:
            files.extractall(tree, filter="data")
        for python in pythons:
            _download(python, tree)
        names = sorted(p.relative_to(tree).as_posix() for p in tree.rglob("*") if p.is_file())
        digests = "".join(f"{sha256_file(tree / name)}  {name}\n" for name in names)
        (tree / DIGESTS).write_text(digests, encoding="utf-8")
        _pack(tree, [*names, DIGESTS], partial, commit, time)
    return target


def _check_clean(checkout: Path) -> None:
    root = _git(checkout, "rev-parse", "--show-toplevel").decode().strip()
    if Path(root) != checkout.resolve():
        raise ReleaseError(
            f"{checkout.resolve()} is no checkout; archives are made in one of git's"
        )
    if changed := _git(checkout, "status", "--porcelain").decode().splitlines():
        raise ReleaseError(
            f"{len(changed)} files are not committed, {changed[0][3:]} among them; an archive is "
            "made of a commit"
        )


def _git(checkout: Path, *arguments: str) -> bytes:
    try:
        outcome = subprocess.run(["git", "-C", str(checkout), *arguments], capture_output=True)
    except FileNotFoundError:
        raise ReleaseError("archives are made with git, which is not installed") from None
    if outcome.returncode:
        reason = outcome.stderr.decode(errors="replace").strip()
        raise ReleaseError(f"no archive can be made here: {reason}")
    return outcome.stdout


def _download(python: str, tree: Path) -> None:
    """Add the packages that an interpreter needs."""
    found = os.path.abspath(shutil.which(python) or python)  # pip runs in another folder
    command = [found, "-m", "pip", "download", "--quiet", "--dest", WHEELS]
    for wanted in (["--require-hashes", "--requirement", LOCK], BUILD_TOOLS):
        try:
            outcome = subprocess.run([*command, *wanted], cwd=tree, capture_output=True, text=True)
        except OSError as error:
            raise ReleaseError(f"{python}: cannot be run ({error.strerror})") from None
        if outcome.returncode:
            errors = [line for line in outcome.stderr.splitlines() if line.startswith("ERROR")]
            reason = errors[-1] if errors else f"status {outcome.returncode}"
            raise ReleaseError(f"{python}: pip cannot download {wanted[-1]} ({reason})")


def _pack(tree: Path, names: Sequence[str], target: Path, commit: str, time: int) -> None:
    """Write the tree; `git get-tar-commit-id` reads the commit from it."""
    with (
        target.open("wb") as file,
        gzip.GzipFile("", "wb", fileobj=file, mtime=time) as packed,
        tarfile.open(fileobj=packed, mode="w", pax_headers={"comment": commit}) as tar,
    ):
        for name in names:
            tar.add(tree / name, f"{tree.name}/{name}", filter=lambda member: plain(member, time))
