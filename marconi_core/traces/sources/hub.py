"""Conversation data sets of the Hugging Face hub, from local files or by download."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, PositiveInt

from marconi_core.datasets import UnavailableError
from marconi_core.errors import DataError
from marconi_core.traces.sources.base import SourceParams
from marconi_core.traces.sources.jsonlines import read_json_lines

logger = logging.getLogger(__name__)

BATCH_ROWS = 1024
MESSAGE_KEYS = {"role", "content"}
SUFFIXES = (".parquet", ".jsonl")


class HubParams(SourceParams):
    """Options of the sources whose files are on the hub."""

    path: Path | None = Field(
        default=None,
        description="a .parquet or .jsonl file of the data set, or a folder of them; "
        "empty downloads from the hub",
    )
    min_turns: PositiveInt = Field(
        default=10, description="conversations with fewer turns are left out"
    )


def read_rows(
    params: HubParams, repository: str, columns: Sequence[str], source: str
) -> Iterator[dict[str, Any]]:
    """Yield the rows of a data set in the order of its files, with the given columns.

    Files are downloaded one at a time, when the rows of the earlier ones did not suffice.

    Raises:
        UnavailableError: the hub does not give the files.
        DataError: a file is missing or damaged, or lacks a column.
    """
    paths = local_files(params.path) if params.path else download(repository, source)
    for path in paths:
        logger.info("%s: reading %s", source, path)
        if path.suffix == ".parquet":
            rows = _read_parquet(path, columns)
        else:
            rows = read_json_lines(path, source)
        for place, row in rows:
            _check(place, row, columns)
            yield row


def local_files(path: Path) -> list[Path]:
    """Return the data files at `path`, which is one of them or their folder."""
    if path.is_file() and path.suffix in SUFFIXES:
        return [path]
    files = sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES)
    if not files:
        raise DataError(
            f"{path}: no parquet or jsonl file here; 'path' must be a data file or its folder"
        )
    return files


def download(repository: str, source: str) -> Iterator[Path]:
    """Yield the parquet files of a repository, each downloaded when it is asked for."""
    try:
        from huggingface_hub import HfApi, hf_hub_download

        names = sorted(
            name
            for name in HfApi().list_repo_files(repository, repo_type="dataset")
            if name.endswith(".parquet")
        )
        for name in names:
            logger.info("%s: downloading %s of %s", source, name, repository)
            yield Path(hf_hub_download(repository, name, repo_type="dataset"))
    # the package is absent, the network down, access not granted: for the user all the same
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise UnavailableError(
            f"{source}: the hub does not give {repository} ({reason}). Accept its terms on its "
            "page and run 'hf auth login', or download its parquet files and set option 'path' of "
            f"source '{source}' to their folder"
        ) from error


def _read_parquet(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        with pq.ParquetFile(path) as file:
            present = [column for column in columns if column in file.schema_arrow.names]
            number = 0
            for batch in file.iter_batches(BATCH_ROWS, columns=present):
                for row in batch.to_pylist():
                    yield f"{path}: row {number}", row
                    number += 1
    except (pa.ArrowException, OSError, ValueError) as error:  # ValueError: names not in UTF-8
        raise DataError(f"{path}: not a parquet file, or damaged ({error})") from error


def _check(place: str, row: Mapping[str, Any], columns: Sequence[str]) -> None:
    """Raise DataError unless the row has the columns, and its conversation is one."""
    if missing := [column for column in columns if column not in row]:
        raise DataError(f"{place}: has no {', '.join(missing)}; is it another data set?")
    conversation = row["conversation"]
    if not isinstance(row["turn"], int) or not isinstance(conversation, list):
        raise DataError(f"{place}: 'turn' is no number, or 'conversation' no list of messages")
    if not all(isinstance(m, Mapping) and MESSAGE_KEYS <= m.keys() for m in conversation):
        raise DataError(f"{place}: a message of 'conversation' lacks role or content")
    if not all(isinstance(m[key], str | None) for m in conversation for key in MESSAGE_KEYS):
        raise DataError(f"{place}: a message's role or content is no text")


def mostly_ascii(messages: Sequence[Any]) -> bool:
    """Whether at most half the characters of a printed conversation are outside ASCII.

    The paper prints the array that pandas makes of the messages; a list prints the same but for the
    (ASCII) separators between messages, which matters only at almost exactly one half.
    """
    text = str(list(messages))
    return sum(ord(character) > 127 for character in text) <= len(text) / 2
