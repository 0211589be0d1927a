"""Mooncake: requests to a production service (Kimi), as lengths and hashes of blocks of 512 tokens.

The files are in kvcache-ai/Mooncake, ``FAST25-release/traces``. ``conversation_trace.jsonl`` is an hour of
chats, ``synthetic_trace.jsonl`` was made of public data sets; both are registered.
``toolagent_trace.jsonl``, in the same format, is not, but can be given by its path. A line has the arrival
time in ms, the lengths of prompt and output in tokens, and one hash per block of the prompt, the last
block not full. Texts were not published. The hash of a block covers everything before it, so two prompts
are alike exactly as far as their hashes are; in both files a hash has only ever one predecessor. Times
were recorded about every 3 s in the chats: requests of one moment are in the order of the file.

What is made up here:

- tokens: all tokens of a block are one number, another one for each hash. Prompts share as many
  tokens as their equal first blocks have, and no more: that texts agree somewhat further, within the
  next block, was not published either.
- outputs: a number of their own for each. The block in which a later prompt would repeat one has a hash
  of its own, so that it cannot be told from the hashes; so nothing is ever served from an output.
- sessions: which requests belong to one chat is not known, so each is a session of its own.

Chats do go on, by all appearances. Of the 12,031 prompts of ``conversation_trace.jsonl``, 3,556 have all
full blocks of an earlier prompt, part from everything earlier there, and have room for its output, with a
median of 37 tokens more. For a cache of KVs little is lost with the outputs (1.5 % of all prompt tokens).
For states it is more: such a prompt would be served from the state at the end of the output, and here has
to find one at the block where prompts part, which is kept only after prompts have parted there before.
Hit rates of policies for hybrid models are therefore too low, of Marconi as of its baselines. All prompts
of that file share their first block, and 61 % share no more than that with any earlier one.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict, FailFast, Field, PositiveInt

from marconi_core.errors import TraceError
from marconi_core.traces.jsonl import parsed_lines
from marconi_core.traces.sources.base import Source, SourceParams, first_sessions
from marconi_core.traces.tokenizers import Encoder
from marconi_core.traces.trace import Request, SessionTokens, TurnTokens
from marconi_core.traces.tree import MAX_TOKEN

Published = Literal["conversation", "synthetic"]

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

    trace: Published = Field(
        default="conversation",
        description="registered trace: chats of a production service, or requests made of public data",
    )
    path: Path | None = Field(
        default=None,
        description="file of another trace in this format (.jsonl), instead of `trace`",
    )
    sessions: PositiveInt = Field(default=100, description="number of requests, from the first")
    max_tokens: PositiveInt = Field(
        default=120_000,
        description="requests with a longer prompt are left out, tokens; from some 122,700 with the "
        "output on, the FLOPs of the paper's model are not exact",
    )

    def needs(self, file: str) -> bool:
        """Whether a registered file is needed: that of `trace`, unless `path` replaces it."""
        return self.path is None and file == registered(self.trace)


def registered(trace: Published) -> str:
    """Return the name that the registry of data sets has for a published trace."""
    return f"mooncake_{trace}"


def read(
    params: MooncakeParams, files: Mapping[str, Path], encode: Encoder
) -> Iterator[SessionTokens]:
    """Yield the first requests, each a session; `encode` is not used."""
    fitting = (
        SessionTokens(
            r.session_id,
            [TurnTokens(r.input_tokens, r.output_tokens, recorded_ts=r.ts)],
            drawn_turns=1,
        )
        for r in read_requests(params.path or files[registered(params.trace)])
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
    files_needed=tuple(map(registered, get_args(Published))),
    needs_tokenizer=False,
    timed=True,
    caveat="made-up tokens",
)
