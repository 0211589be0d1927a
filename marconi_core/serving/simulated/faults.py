"""Faults on purpose, so that their handling can be tested."""

from collections.abc import Iterable
from typing import Literal, NamedTuple, cast, get_args

from marconi_core.serving.errors import ServingError

Kind = Literal["error", "disconnect", "hang", "die"]
KINDS: tuple[str, ...] = get_args(Kind)


class Fault(NamedTuple):
    """What goes wrong with one request.

    Attributes:
        kind: ``error``: HTTP 500; ``disconnect``: the connection is closed after the first token;
            ``hang``: nothing is ever answered; ``die``: the server ends.
        request: which, counted from 1 as they arrive.
    """

    kind: Kind
    request: int

    @classmethod
    def of(cls, text: str) -> "Fault":
        """Return the fault written as ``KIND@REQUEST``.

        Raises:
            ServingError: it is not written so.
        """
        kind, _, number = text.partition("@")
        if kind not in KINDS or not number.isdecimal() or int(number) < 1:
            raise ServingError(
                f"fault '{text}': write KIND@REQUEST, KIND one of {', '.join(KINDS)}"
            )
        return cls(cast(Kind, kind), int(number))


def at(faults: Iterable[Fault], request: int) -> Kind | None:
    """Return what goes wrong with a request."""
    return next((fault.kind for fault in faults if fault.request == request), None)
