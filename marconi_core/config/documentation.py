"""The configuration's models as a JSON schema for editors and as a Markdown table for people."""

import json
import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from marconi_core.config import Config, DatasetConfig, PoissonGrid, RecordedTimes, TypingGrid
from marconi_core.config.live import LiveConfig
from marconi_core.config.server import Pools, ServerConfig
from marconi_core.replay.options import ReplayOptions


def json_schema() -> str:
    """Return the JSON schema of the configuration (for editors), as the file holds it."""
    return json.dumps(Config.model_json_schema(), indent=2) + "\n"


def option_table() -> str:
    """Return the Markdown table of all options."""
    rows = [f"| `{key}` | {kind} | {default} | {text} |" for key, kind, default, text in _options()]
    return "\n".join(["| option | type | default | meaning |", "|---|---|---|---|", *rows])


def _options() -> Iterator[tuple[str, str, str, str]]:
    yield from _options_of(Config, "")
    yield from _options_of(DatasetConfig, "datasets.NAME.")
    yield from _options_of(RecordedTimes, "datasets.NAME.arrivals(recorded).")
    yield from _options_of(TypingGrid, "datasets.NAME.arrivals(typing).")
    yield from _options_of(PoissonGrid, "datasets.NAME.arrivals(poisson).")
    yield from _options_of(ServerConfig, "server.")
    yield from _options_of(Pools, "server.pools.TRACE.")
    yield from _options_of(LiveConfig, "live.")
    yield from _options_of(ReplayOptions, "live.replay.")


def _options_of(section: type[BaseModel], prefix: str) -> Iterator[tuple[str, str, str, str]]:
    for name, field in section.model_fields.items():
        default = field.get_default(call_default_factory=True)
        written = "required" if default is PydanticUndefined else f"`{json.dumps(_plain(default))}`"
        kind = _type_name(field.annotation).replace("|", "\\|")
        yield prefix + name, kind, written, field.description or ""


def _type_name(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is type(None):
        return "null"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin in (Union, types.UnionType):
        return " | ".join(dict.fromkeys(_type_name(argument) for argument in arguments))
    if origin is tuple:
        return f"list of {_type_name(arguments[0])}"
    if origin is dict:
        return "section"
    if origin is Annotated:
        return _type_name(arguments[0])
    return {"str": "text", "float": "number", "int": "whole number", "bool": "true or false"}[
        annotation.__name__
    ]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
