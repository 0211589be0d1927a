"""Trace files in the paper's format: one JSON object a line for each request, in replay order."""

import gzip
import hashlib
import json
import logging
import lzma
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, FailFast, Field, ValidationError

from marconi_core.errors import TraceError
from marconi_core.files import atomic_path
from marconi_core.progress import Heartbeat
from marconi_core.traces.reading import TooLongError, read_lines
from marconi_core.traces.trace import MAX_LABEL, MAX_TURN, Request, Trace
from marconi_core.traces.tree import MAX_TOKEN

logger = logging.getLogger(__name__)

Line = TypeVar("Line", bound=BaseModel)
TokenId = Annotated[int, Field(ge=0, le=MAX_TOKEN)]


class _Line(BaseModel):
    """One line of the file; fields the format does not have are ignored."""

    model_config = ConfigDict(strict=True, frozen=True)

    session_id: Annotated[int, Field(ge=-MAX_LABEL, le=MAX_LABEL)] | str
    turn_id: Annotated[int, Field(ge=0, le=MAX_TURN)]
    ts: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    num_input_tokens: int
    num_output_tokens: int
    # one error suffices: a list of a million wrong ids would make a million
    input_tokens: Annotated[list[TokenId], Field(min_length=1), FailFast()]
    output_tokens: Annotated[list[TokenId], FailFast()]


def read_trace(path: str | os.PathLike[str]) -> Trace:
    """Read a trace file and compile it; TraceError as `read_requests`."""
    return Trace.build(read_requests(path))


def read_requests(path: str | os.PathLike[str]) -> Iterator[Request]:
    """Yield the requests of a trace file in its order; TraceError as `parsed_lines`."""
    for place, row in parsed_lines(path, _Line):
        for kind, tokens, count in (
            ("input", row.input_tokens, row.num_input_tokens),
            ("output", row.output_tokens, row.num_output_tokens),
        ):
            if len(tokens) != count:
                raise TraceError(
                    f"{place}: num_{kind}_tokens is {count}, but {kind}_tokens has {len(tokens)}; "
                    "the line is damaged, make or fetch the trace again"
                )
        yield Request(row.session_id, row.turn_id, row.ts, row.input_tokens, row.output_tokens)


def parsed_lines(path: str | os.PathLike[str], model: type[Line]) -> Iterator[tuple[str, Line]]:
    """Yield (``file:line``, parsed line); blank lines are left out, ``.gz`` and ``.xz`` unpacked.

    Raises:
        TraceError: the file is missing, empty or damaged, or a line is not what the model says; the
            message names the file, the line and what is wrong with it.
    """
    heartbeat = Heartbeat(logger, "%s: %d requests read")
    number, found = 0, False
    try:
        with _open(Path(path)) as file:
            for number, line in read_lines(file):
                if line.strip():
                    found = True
                    place = f"{path}:{number}"
                    yield place, _parse(line, model, place)
                    heartbeat.beat(path, number)
    except TooLongError as error:
        raise TraceError(
            f"{path}:{number + 1}: {error}; a trace has one JSON object a line"
        ) from error
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        place = f" after line {number}" if number else ""
        raise TraceError(f"{path}: cannot be read{place} ({reason})") from error
    if not found:
        raise TraceError(f"{path}: the file is empty; a trace has one JSON object a line")


def write_trace(trace: Trace, path: str | os.PathLike[str]) -> None:
    """Write a trace file, plain text: the same bytes as the paper's generator for the same trace.

    Raises:
        TraceError: `path` asks for a compressed file.
    """
    if Path(path).suffix in (".gz", ".xz"):
        raise TraceError(f"{path}: traces are written as plain text; choose a name without suffix")
    heartbeat = Heartbeat(logger, "%s: %d of %d requests written")
    with atomic_path(path) as partial, partial.open("wb") as file:
        for number, line in enumerate(_lines(trace), start=1):
            file.write(line)
            heartbeat.beat(path, number, len(trace))


def trace_sha256(trace: Trace) -> str:
    """Return the SHA-256 of the file that `write_trace` would write."""
    digest = hashlib.sha256()
    for line in _lines(trace):
        digest.update(line)
    return digest.hexdigest()


def content_sha256(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a trace file's content, unpacked."""
    with _open(Path(path)) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


def _lines(trace: Trace) -> Iterator[bytes]:
    for i in range(len(trace)):
        inputs, outputs = trace.input_tokens(i).tolist(), trace.output_tokens(i).tolist()
        line = {
            "session_id": trace.session_ids[trace.session[i]],
            "turn_id": int(trace.turn[i]),
            "ts": float(trace.ts[i]),
            "num_input_tokens": len(inputs),
            "num_output_tokens": len(outputs),
            "input_tokens": inputs,
            "output_tokens": outputs,
        }
        yield json.dumps(line).encode() + b"\n"


def _open(path: Path) -> IO[bytes]:
    if path.suffix == ".gz":
        return gzip.open(path)  # type: ignore[return-value]  # a reader of bytes, not typed as IO
    if path.suffix == ".xz":
        return lzma.open(path)
    return path.open("rb")


def _parse(line: bytes, model: type[Line], place: str) -> Line:
    try:
        return model.model_validate_json(line)
    except ValidationError as error:
        raise TraceError(f"{place}: {_explain(error, line)}") from None


def _explain(error: ValidationError, line: bytes) -> str:
    """Return what is wrong with a line, and the way out."""
    problem = error.errors(include_url=False, include_input=False)[0]
    if problem["type"] == "json_invalid":
        if line.lstrip()[:1] == b"<":
            return "a web page or XML instead of a trace; the download failed, fetch it again"
        if "EOF" in problem["msg"]:
            return "the line is cut off; the file is incomplete, make or fetch the trace again"
        return f"not JSON ({problem['msg']}); a trace has one JSON object a line"
    field = ".".join(map(str, problem["loc"])) or "the line"
    return f"{field}: {problem['msg']}"
