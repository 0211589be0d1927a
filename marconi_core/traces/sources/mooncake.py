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
  of its own, so that it cannot be told from the hashes; so nothing is served from an output, unless
  `continued` is asked for.
- sessions: which requests belong to one chat is not known, so each is a session of its own.

Chats do go on, by all appearances. Of the 12,031 prompts of ``conversation_trace.jsonl``, 3,525 part from
everything earlier just behind the last full block of an earlier prompt, and have room for its output, with
a median of 36 tokens more. For a cache of KVs little is lost with the outputs (1.5 % of all prompt
tokens). For states it is more: such a prompt would be served from the state at the end of the output, and
here has to find one where prompts part, which is kept only after they have parted there before. Hit rates
of policies for hybrid models are therefore too low, of Marconi as of its baselines. With `continued`,
these prompts are taken to begin with the earlier prompt and its output: a guess, but a likely one. All
prompts of that file share their first block, and 61 % share no more than that with any earlier one.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, FailFast, Field, PositiveInt

from marconi_core.errors import TraceError
from marconi_core.traces.jsonl import parsed_lines
from marconi_core.traces.sources.base import Source, SourceParams, first_sessions
from marconi_core.traces.tokenizers import Encoder
from marconi_core.traces.trace import Request, SessionTokens, TurnTokens
from marconi_core.traces.tree import MAX_TOKEN

_Tokens = NDArray[np.int32]
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

    continued: bool = Field(
        default=False,
        description="take prompts that look like the next turn of an earlier one to repeat its output",
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
        for r in read_requests(params.path or files[registered(params.trace)], params.continued)
        if len(r.input_tokens) <= params.max_tokens
    )
    return first_sessions(fitting, params.sessions, SOURCE.name)


def read_requests(path: Path, continued: bool = False) -> Iterator[Request]:
    """Yield the requests in the order of the file, at their recorded times.

    Args:
        continued: see `MooncakeParams`.

    Raises:
        TraceError: the file is missing, empty or damaged; the message names file and line.
    """
    numbers: dict[int, int] = {}
    turns = _Turns()
    for i, (place, row) in enumerate(parsed_lines(path, _Line)):
        blocks = -(-row.input_length // BLOCK)
        if len(row.hash_ids) != blocks:
            raise TraceError(
                f"{place}: hash_ids has {len(row.hash_ids)} blocks, but {row.input_length} tokens "
                f"take {blocks} of {BLOCK}; is it another format? fetch the trace again"
            )
        known = next((k for k, block in enumerate(row.hash_ids) if block not in numbers), blocks)
        block_tokens = [numbers.setdefault(block, len(numbers)) for block in row.hash_ids]
        prompt = np.repeat(np.array(block_tokens, np.int32), BLOCK)[: row.input_length]
        output = np.broadcast_to(np.int32(MAX_TOKEN - i), row.output_length)  # takes no memory
        if continued:
            turns.add(row.hash_ids, known, prompt, output)
        yield Request(
            session_id=i,
            turn_id=0,
            ts=row.timestamp / 1000,
            input_tokens=prompt,
            output_tokens=output,
        )


class _Turns:
    """Finds the prompts that go on where an earlier request ended, and has them repeat its output."""

    def __init__(self) -> None:
        # what follows a prompt's last full block: the rest of the latest such prompt, and its output
        self._tails: dict[int, tuple[_Tokens, _Tokens]] = {}
        self._repeating: dict[int, _Tokens] = {}  # blocks that hold a part of a tail

    def add(self, hashes: Sequence[int], known: int, prompt: _Tokens, output: _Tokens) -> None:
        """Write the tokens of earlier requests into a prompt, and remember what it ends with.

        Args:
            hashes: of the prompt's blocks.
            known: how many of them earlier prompts have.
        """
        for place in range(known):
            if (tokens := self._repeating.get(hashes[place])) is not None:
                block = _block(prompt, place)[: len(tokens)]
                block[:] = tokens[: len(block)]
        # all chats share their first block, which says nothing
        if 1 < known < len(hashes) and (tail := self._tails.get(hashes[known - 1])):
            start = known * BLOCK
            end = start + sum(map(len, tail))
            if end <= len(prompt):
                prompt[start:end] = np.concatenate(tail)
                for place in range(known, -(-end // BLOCK)):
                    self._repeating[hashes[place]] = _block(prompt, place).copy()
        if full := len(prompt) // BLOCK:
            self._tails[hashes[full - 1]] = (prompt[full * BLOCK :].copy(), output)


def _block(prompt: _Tokens, place: int) -> _Tokens:
    return prompt[place * BLOCK : (place + 1) * BLOCK]


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
