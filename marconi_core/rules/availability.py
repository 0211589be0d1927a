"""Which optional data sets can be had here and now, and why the others cannot."""

import json
import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path

from marconi_core import datasets
from marconi_core.config import Config, DatasetConfig
from marconi_core.errors import DataError, MarconiError, StorageError
from marconi_core.files import write_text
from marconi_core.traces.sources import no_encoder, validate_params
from marconi_core.traces.tokenizers import Encoder, build_llama2, load_encoder

logger = logging.getLogger(__name__)

VOCABULARY = "llama2_vocab"


def check_optional(config: Config) -> dict[str, str]:
    """Try every optional data set, as far as reading its first session.

    Files that are found or downloaded on the way stay in `data_dir`.

    Returns:
        The reason by name for each data set that cannot be had; empty text for those that can.

    Raises:
        StorageError: what was found cannot be kept.
    """
    reasons = {}
    for name, dataset in config.datasets.items():
        if dataset.optional:
            logger.info("%s: trying", name)
            try:
                _try(dataset, Path(config.data_dir), config.data_mirror)
                reasons[name] = ""
            except StorageError:
                raise  # of the machine, not of the data set
            except MarconiError as error:
                reasons[name] = str(error)
            logger.info("%s: %s", name, reasons[name] or "can be had")
    return reasons


def write_reasons(reasons: Mapping[str, str], path: str | Path) -> None:
    """Write what `check_optional` found."""
    write_text(path, json.dumps(reasons, indent=2) + "\n")


def read_reasons(path: str | Path) -> dict[str, str]:
    """Read what `write_reasons` wrote."""
    reasons: dict[str, str] = json.loads(Path(path).read_text(encoding="utf-8"))
    return reasons


def _try(dataset: DatasetConfig, data_dir: Path, mirror: str | None) -> None:
    """Raise MarconiError unless the first session of a data set can be read."""
    if dataset.trace_dir is not None:
        if not Path(dataset.trace_dir).is_dir():
            raise DataError(f"trace_dir: {dataset.trace_dir} is not a folder")
        return
    files = {name: datasets.fetch(name, data_dir, mirror) for name in dataset.files_needed}
    options = validate_params(dataset.reader, dataset.reader_params)
    encode = _encoder(data_dir, mirror) if dataset.needs_tokenizer else no_encoder
    next(iter(dataset.reader.read(options, files, encode)))


def _encoder(data_dir: Path, mirror: str | None) -> Encoder:
    """Return an encoder, built apart from the one that a rule builds at the same time."""
    vocabulary = datasets.fetch(VOCABULARY, data_dir, mirror)
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = Path(folder) / "tokenizer.json"
        build_llama2(vocabulary, tokenizer)
        return load_encoder(tokenizer)
