"""Mooncake: requests to a production service (Kimi), as lengths and hashes of blocks of 512 tokens.

The files are in kvcache-ai/Mooncake, ``FAST25-release/traces``: ``conversation_trace.jsonl``,
``toolagent_trace.jsonl`` and ``synthetic_trace.jsonl``. Texts were not published. The hash of a block
covers everything before it, so two prompts are alike exactly as far as their hashes are.

What is made up here:

- tokens: all tokens of a block are one number, another one for each hash. Prompts share as many
  tokens as their equal first blocks have, and no more: that texts agree somewhat further, within the
  next block, was not published either.
- outputs: a number of their own for each. Whether a later prompt repeats one cannot be told, for the
  block in which it would stand has a hash of its own; so nothing is ever served from an output.
- sessions: which requests belong to one chat is not known, so each is a session of its own.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, FailFast, Field, PositiveInt

from marconi_core.errors import TraceError
from marconi_core.traces.jsonl import parsed_lines
from marconi_core.traces.sources.base import Source, SourceParams, first_sessions
from marconi_core.traces.tokenizers import Encoder
from marconi_core.traces.trace import Request, SessionTokens, TurnTokens
from marconi_core.traces.tree import MAX_TOKEN

BLOCK = 512
MAX_LENGTH = 1 << 24  # tokens of a request; ten times what any model takes
MAX_HASH = 2**64 - 1


class _Line(BaseModel):
    """One line of the file; fields the format does not have are ignored."""

    model_config = ConfigDict(strict=True, frozen=True)

    timestamp: Annotated[float, Field(ge=0, allow_inf_nan=False)]  # ms
    input_length: Annotated[int, Field(ge=1, le=MAX_LENGTH)]
    output_length: Annotated[int, Field(ge=0, le=MAX_LENGTH)]
    hash_ids: Annotated[list[Annotated[int, Field(ge=0, le=MAX_HASH)]], FailFast()]


class MooncakeParams(SourceParams):
    """Options of `mooncake`."""

    path: Path = Field(description="a trace of kvcache-ai/Mooncake, FAST25-release/traces (.jsonl)")
    sessions: PositiveInt = Field(default=100, description="number of requests, from the first")
    max_tokens: PositiveInt = Field(
        default=MAX_LENGTH, description="requests with a longer prompt are left out, tokens"
    )


def read(
    params: MooncakeParams, files: Mapping[str, Path], encode: Encoder
) -> Iterator[SessionTokens]:
    """Yield the first requests, each a session; `files` and `encode` are not used."""
    fitting = (
        SessionTokens(r.session_id, [TurnTokens(r.input_tokens, r.output_tokens)], drawn_turns=1)
        for r in read_requests(params.path)
        if len(r.input_tokens) <= params.max_tokens
    )
    return first_sessions(fitting, params.sessions, SOURCE.name)


def read_requests(path: Path) -> Iterator[Request]:
    """Yield the requests in the order of the file, at their recorded times.

    Raises:
        TraceError: the file is missing, empty or damaged; the message names file and line.
    """
    numbers: dict[int, int] = {}
    for i, (place, row) in enumerate(parsed_lines(path, _Line)):
        blocks = -(-row.input_length // BLOCK)
        if len(row.hash_ids) != blocks:
            raise TraceError(
                f"{place}: hash_ids has {len(row.hash_ids)} blocks, but {row.input_length} tokens "
                f"take {blocks} of {BLOCK}; is it another format? fetch the trace again"
            )
        block_tokens = [numbers.setdefault(block, len(numbers)) for block in row.hash_ids]
        yield Request(
            session_id=i,
            turn_id=0,
            ts=row.timestamp / 1000,
            input_tokens=np.repeat(np.array(block_tokens, np.int32), BLOCK)[: row.input_length],
            output_tokens=np.full(row.output_length, MAX_TOKEN - i, np.int32),
        )


SOURCE = Source(
    name="mooncake",
    summary="Mooncake: a production service's requests, known by hashes of blocks of 512 tokens",
    params=MooncakeParams,
    read=read,
    needs_tokenizer=False,
)
