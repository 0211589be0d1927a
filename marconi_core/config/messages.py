"""Turns pydantic's validation errors into lines that name the key and say what to write."""

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticUndefined

from marconi_core.errors import shown

OPTIONS = "workflow/config/README.md"  # where a user finds every option

Path = Sequence[int | str]
ARRIVALS = ("recorded", "typing", "poisson")  # kinds, which pydantic puts into the path


def explain(detail: ErrorDetails, root: type[BaseModel]) -> str:
    """Return one line for one error of validating `root`: dotted key, mistake, and the way out."""
    path = _written_path(detail["loc"])
    key = ".".join(str(part) for part in path)
    kind = detail["type"]
    if kind == "extra_forbidden":
        fields = _fields_at(root, path[:-1])
        close = difflib.get_close_matches(str(path[-1]), fields, n=1)
        hint = f"did you mean `{close[0]}`? " if close else ""
        return f"{key}: unknown key; {hint}valid keys here: {', '.join(fields)}"
    field = _field_at(root, path)
    if kind in ("missing", "union_tag_not_found"):
        return f"{key}: missing; {_how_to_write(path, field)}"
    if kind == "union_tag_invalid":
        kinds = detail["ctx"]["expected_tags"].replace("'", "`")
        return f"{key}.kind: {shown(detail['input'].get('kind'))} is unknown; write one of {kinds}"
    if kind == "value_error":
        return f"{key}: {detail['ctx']['error']}".removeprefix(": ")
    got = "" if isinstance(detail["input"], dict | list) else f", got {shown(detail['input'])}"
    return f"{key}: {_plain_words(detail['msg'])}{got}; {_how_to_write(path, field)}"


def _written_path(location: tuple[int | str, ...]) -> list[int | str]:
    """Return the keys as they stand in the file (pydantic adds union tags and `[key]` marks)."""
    path: list[int | str] = []
    for part in location:
        if path and path[-1] == "arrivals" and part in ARRIVALS:
            continue
        if part != "[key]":
            path.append(part)
    return path


def _fields_at(root: type[BaseModel], path: Path) -> dict[str, FieldInfo]:
    """Return the fields of the section at a path, those of all variants of a union together."""
    sections: list[type[BaseModel]] = [root]
    for part in path:
        fields = [s.model_fields[str(part)] for s in sections if str(part) in s.model_fields]
        if fields:
            sections = [s for field in fields for s in _sections_in(field.annotation)]
    return {name: field for section in sections for name, field in section.model_fields.items()}


def _field_at(root: type[BaseModel], path: Path) -> FieldInfo | None:
    """Return the innermost declared field on a path (list positions and data set names are not)."""
    for end in range(len(path), 0, -1):
        field = _fields_at(root, path[: end - 1]).get(str(path[end - 1]))
        if field is not None:
            return field
    return None


def _sections_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _sections_in(argument)


def _plain_words(message: str) -> str:
    """Return pydantic's message in the words of YAML."""
    message = re.sub(r"dictionary( or instance of \w+)?", "section of `key: value` lines", message)
    return message.replace("tuple", "list").replace("Input should", "should")


def _how_to_write(path: Path, field: FieldInfo | None) -> str:
    if field is None:
        return f"see {OPTIONS}"
    name = next(str(part) for part in reversed(path) if not isinstance(part, int))
    example = field.examples[0] if field.examples else field.get_default(call_default_factory=True)
    if example is PydanticUndefined:
        return f"see {OPTIONS}"
    return f"write for example `{name}: {json.dumps(example)}`"


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """Return the message for a name that no registry has: the nearest name, and all of them."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean `{close[0]}`? " if close else ""
    return f"unknown {what} `{name:.80}`; {hint}known: {', '.join(known)}"
