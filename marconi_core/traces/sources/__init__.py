"""The sources of conversations: one module per data set, and the registry of them."""

import os
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from marconi_core import datasets
from marconi_core.errors import ConfigError, DataError
from marconi_core.traces.sources import (
    lmsys,
    mooncake,
    sharegpt,
    sharegpt_long,
    swebench,
    synthetic,
    tau_airline,
    wildchat,
)
from marconi_core.traces.sources.base import Source, SourceParams
from marconi_core.traces.tokenizers import Encoder, load_encoder
from marconi_core.traces.trace import Workload

SOURCES: dict[str, Source] = {
    source.name: source
    for source in (
        sharegpt.SOURCE,
        sharegpt_long.SOURCE,
        swebench.SOURCE,
        tau_airline.SOURCE,
        lmsys.SOURCE,
        wildchat.SOURCE,
        mooncake.SOURCE,
        synthetic.SOURCE,
    )
}


def get_source(name: str) -> Source:
    """Return a source by name; ConfigError lists the valid names."""
    if name not in SOURCES:
        raise ConfigError(f"unknown source '{name}'; choose one of: {', '.join(SOURCES)}")
    return SOURCES[name]


def load_workload(
    name: str,
    params: SourceParams | Mapping[str, Any] | None = None,
    data_dir: str | os.PathLike[str] = "results/data",
    tokenizer_path: str | os.PathLike[str] | None = None,
) -> Workload:
    """Read, tokenize and compile a data set.

    Args:
        name: key of `SOURCES`.
        params: options of the source (its model, or a mapping to validate); None: the defaults.
        data_dir: folder into which `datasets.fetch` put the files the source needs.
        tokenizer_path: a ``tokenizer.json``; not used by a source that makes token ids itself.

    Raises:
        ConfigError: unknown source or option.
        DataError: a file is missing, damaged, or holds too few conversations.
    """
    source = get_source(name)
    options = validate_params(source, params)
    encode = _encoder(source, tokenizer_path)
    files = {file: datasets.checked_path(file, data_dir) for file in source.files_for(options)}
    return Workload.build(source.read(options, files, encode), f"source '{name}'")


def validate_params(
    source: Source, params: SourceParams | Mapping[str, Any] | None
) -> SourceParams:
    """Return the options of a source; ConfigError names the first wrong one."""
    if isinstance(params, source.params):
        return params
    try:
        return source.params.model_validate(params or {})
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(map(str, problem["loc"]))
        valid = ", ".join(source.params.model_fields)
        raise ConfigError(
            f"source '{source.name}': option '{key}': {problem['msg']}; options are: {valid}"
        ) from error


def _encoder(source: Source, tokenizer_path: str | os.PathLike[str] | None) -> Encoder:
    if not source.needs_tokenizer:
        return no_encoder
    if tokenizer_path is None:
        raise DataError(f"source '{source.name}' holds text: a tokenizer.json is needed to read it")
    return load_encoder(tokenizer_path)


def no_encoder(texts: Any) -> Any:
    """Stand where an encoder would for a source that needs none."""
    raise TypeError("this source makes token ids itself")
