"""The compiled files of traces: arrays in an .npz that is not compressed.

A file may come from anywhere. Nothing in it is executed, no array is larger than what the file holds,
and what was read is checked by its owner (`Requests.check`) before anyone computes with it.
"""

import os
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marconi_core.errors import TraceError
from marconi_core.files import atomic_path


def write_arrays(
    path: str | os.PathLike[str], label: str, arrays: Mapping[str, NDArray[Any]]
) -> None:
    """Write arrays, atomically; the same ones give the same bytes."""
    with atomic_path(path) as partial, open(partial, "wb") as file:
        np.savez(file, allow_pickle=False, format=label, **arrays)


@contextmanager
def opened(path: str | os.PathLike[str], label: str) -> Iterator["CompiledFile"]:
    """Open a compiled file; whatever is wrong with it ends the block with one TraceError.

    Raises:
        TraceError: the file is missing, damaged, or another kind or version of file.
    """
    if not Path(path).is_file():
        raise TraceError(f"{path}: no such file")
    try:
        with zipfile.ZipFile(path) as archive:
            file = CompiledFile(archive, os.path.getsize(path))
            if (found := file.text("format")) != label:
                raise TraceError(f"{path}: holds '{found}', expected '{label}'; {_way_out(found)}")
            yield file
    except TraceError:
        raise
    except Exception as error:  # whatever zipfile and numpy raise on damage
        raise TraceError(
            f"{path}: not a compiled file, or a damaged one ({error!s:.200}); compile it again"
        ) from error


def _way_out(found: str) -> str:
    if found.startswith("marconi workload"):
        return (
            "a data set has no arrival times yet: name a trace, such as `snakemake --cores 2 "
            "results/traces/NAME.jsonl` writes"
        )
    return "compile it again"


class CompiledFile:
    """The arrays of a compiled file, read one by one; all methods raise ValueError on damage."""

    def __init__(self, archive: zipfile.ZipFile, size: int) -> None:
        self._archive = archive
        self._size = size

    def array(self, name: str, dtype: type[np.generic]) -> NDArray[Any]:
        """Return a one-dimensional array of exactly that type."""
        array = self._read(name, lambda found: found == dtype)
        if array.ndim != 1:
            raise ValueError(f"{name}: has {array.ndim} dimensions instead of 1")
        return array

    def text(self, name: str) -> str:
        """Return a string."""
        array = self._read(name, lambda found: found.kind == "U")
        if array.ndim != 0:
            raise ValueError(f"{name}: not a text")
        return str(array)

    def _read(self, name: str, wanted: Any) -> NDArray[Any]:
        try:
            member = self._archive.getinfo(f"{name}.npy")
        except KeyError:
            raise ValueError(f"{name}: missing") from None
        if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
            raise ValueError(f"{name}: compressed or encrypted")
        with self._archive.open(member) as file:
            if np.lib.format.read_magic(file) != (1, 0):
                raise ValueError(f"{name}: another version of numpy's format")
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            if not wanted(dtype):
                raise ValueError(f"{name}: has type {dtype}")
            if any(length < 0 for length in shape):
                raise ValueError(f"{name}: has shape {shape}")
            # before numpy makes room: a header of a hundred bytes may promise terabytes
            held = min(member.file_size, self._size) - file.tell()
            if int(np.prod(shape, dtype=object)) * dtype.itemsize != held:
                raise ValueError(f"{name}: has shape {shape}, but {held} bytes")
        with self._archive.open(member) as file:
            return np.asarray(np.lib.format.read_array(file, allow_pickle=False))
