"""What is wrong with the fields of a description, in one line."""

from pydantic import ValidationError


def problems(error: ValidationError, what: str) -> str:
    """Return one line that names every wrong or unknown field; `what` where there is no field."""
    return "; ".join(
        f"{'.'.join(map(str, problem['loc'])) or what}: "
        f"{problem['msg'].removeprefix('Value error, ')}"
        for problem in error.errors()
    )
