"""What is wrong with the fields of a description, in one line."""

import difflib
from collections.abc import Iterable, Iterator

from pydantic import ValidationError
from pydantic_core import ErrorDetails


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
