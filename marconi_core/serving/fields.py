"""Descriptions checked: what is wrong with their fields, in one line."""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from marconi_core.serving.errors import ServingError

Model = TypeVar("Model", bound=BaseModel)


def checked(
    model: type[Model], fields: Mapping[str, Any], what: str, error: type[Exception] = ServingError
) -> Model:
    """Return a description of these fields.

    Args:
        what: is named where there is no field.
        error: is raised, with one line that names every wrong or unknown field.
    """
    try:
        return model.model_validate(dict(fields))
    except ValidationError as wrong:
        raise error(problems(wrong, what, model.model_fields)) from None


def problems(error: ValidationError, what: str, known: Iterable[str]) -> str:
    """Return one line that names every wrong or unknown field.

    Args:
        what: is named where there is no field.
        known: names of all fields.
    """
    return "; ".join(_lines(error.errors(), what, list(known)))


def _lines(details: Iterable[ErrorDetails], what: str, known: list[str]) -> Iterator[str]:
    for detail in details:
        field = ".".join(map(str, detail["loc"])) or what
        if detail["type"] == "extra_forbidden":
            close = difflib.get_close_matches(field, known, n=1)
            way_out = f"did you mean `{close[0]}`?" if close else f"there are {', '.join(known)}"
            yield f"{field}: unknown field; {way_out}"
        else:
            yield f"{field}: {detail['msg'].removeprefix('Value error, ')}"
