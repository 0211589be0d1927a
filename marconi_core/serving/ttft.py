"""Time to first token against prompt length, cold and with a cached prefix, on an idle and a busy server.

Every request is a row: also those that only put a prefix into the cache, which are cold measurements
themselves. Rounds repeat the whole grid in a new order, so that a drift of the machine does not look
like an effect of length. The first rounds are warm-up: kernels are compiled and tuned at the first use
of a new shape, which takes seconds. They are recorded and marked.

One request at a time is measured, on an idle server first. Then others decode meanwhile: it has to wait for
their step, and server and client have more to do.
"""

import logging
import random
import statistics
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

from marconi_core.progress import Heartbeat
from marconi_core.serving.busy import decoding
from marconi_core.serving.client import Client, Reply

logger = logging.getLogger(__name__)

TOKEN_IDS = range(1_000, 100_000)
OTHER_PROMPT = 64  # tokens


class Plan(BaseModel):
    """What is measured: lengths x cached fractions x rounds, and less on a busy server."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    lengths: tuple[PositiveInt, ...] = Field(
        (128, 512, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 12288, 16384, 24576, 32768),
        min_length=1,
        description="prompt lengths in tokens",
    )
    fractions: tuple[float, ...] = Field(
        (0.0, 0.5, 0.9), description="parts of the prompt that were sent before; 0 is cold"
    )
    decode_lengths: tuple[PositiveInt, ...] = Field(
        (1024, 8192, 32768), description="prompt lengths after which decoding is timed too"
    )
    decode_tokens: int = Field(65, ge=2, description="output tokens of those")
    others: tuple[PositiveInt, ...] = Field(
        (3, 7, 15), description="how many requests decode meanwhile, where a server is busy"
    )
    busy_lengths: tuple[PositiveInt, ...] = Field(
        (1024, 4096),
        min_length=1,
        description="cold prompts there; decoding is timed after the first of these lengths",
    )
    other_tokens: int = Field(
        400, ge=2, description="output tokens of each of the others, who must not end before"
    )
    rounds: PositiveInt = Field(6, description="measured repetitions of the grid")
    warmup_rounds: int = Field(2, ge=0, description="repetitions before these, marked as warm-up")
    seed: int = Field(1, description="of token ids and order")

    @model_validator(mode="after")
    def _fractions_are_parts(self) -> Self:
        if not all(0 <= fraction < 1 for fraction in self.fractions):
            raise ValueError("fractions: each must be at least 0 and less than 1")
        return self

    def without_cache(self) -> "Plan":
        """Return the plan for a server that keeps no prefixes: cold prompts only."""
        return self.model_copy(update={"fractions": (0.0,)})

    def beside_at_most(self, others: int) -> "Plan":
        """Return the plan for a server on which only so many requests run beside the measured one."""
        if more := [n for n in self.others if n > others]:
            logger.warning("others: not beside %s; the server lets %d run", more, others + 1)
        return self.model_copy(update={"others": tuple(n for n in self.others if n <= others)})

    @property
    def requests_per_round(self) -> int:
        """Number of requests of one round."""
        sent_before = sum(fraction > 0 for fraction in self.fractions)
        idle = len(self.lengths) * (len(self.fractions) + sent_before) + len(self.decode_lengths)
        return idle + len(self.others) * len(self.busy_prompts)

    @property
    def prompts(self) -> list["Prompt"]:
        """The prompts of one round on an idle server."""
        grid = [
            Prompt(length, round(fraction * length), 1)
            for length in self.lengths
            for fraction in self.fractions
        ]
        return grid + [Prompt(length, 0, self.decode_tokens) for length in self.decode_lengths]

    @property
    def busy_prompts(self) -> list["Prompt"]:
        """The prompts of one round beside others, of each number of them."""
        cold = [Prompt(length, 0, 1) for length in self.busy_lengths]
        return [*cold, Prompt(self.busy_lengths[0], 0, self.decode_tokens)]


class Prompt(NamedTuple):
    """One cell of the grid: tokens of the prompt, of its part sent before, and of the output."""

    length: int
    prefix: int
    output: int


class Row(NamedTuple):
    """One request, a line of the recorded CSV.

    Attributes:
        variant: how the server keeps prefixes.
        round: number of the repetition; warm-up rounds are negative, the last one is -1.
        purpose: ``cold``; ``prefix``: cold too, sent so that the next request can hit; ``hit``;
            ``decode``: cold, with more than one output token.
        prompt_tokens: as the server counted.
        prefix_tokens: tokens at the prompt's start that an earlier request sent or got.
        cached_tokens: tokens that the server did not compute again.
        output_tokens: as the server counted.
        ttft_ms: milliseconds from sending to the first token, on the client.
        total_ms: milliseconds from sending to the last token, on the client.
        at_s: seconds from the beginning of the measurement to the end of the request.
        others: requests that decoded meanwhile.
    """

    variant: str
    round: int
    purpose: str
    prompt_tokens: int
    prefix_tokens: int
    cached_tokens: int
    output_tokens: int
    ttft_ms: float
    total_ms: float
    at_s: float
    others: int = 0


def measure(
    client: Client, plan: Plan, variant: str, deadline_s: float | None = None
) -> Iterator[Row]:
    """Run the plan on a server that nobody else uses; yield one row per request.

    The cache is emptied before each prompt on the idle server, so a hit is on exactly one earlier request.

    Args:
        client: the server.
        plan: what to measure.
        variant: name written into the rows.
        deadline_s: seconds after which no further prompt is begun, whatever is left of the plan.

    Raises:
        ServingError: a request failed; the rows so far have been yielded.
    """
    start = time.monotonic()
    tokens = random.Random(plan.seed)
    heartbeat = Heartbeat(logger, "%s: round %d of %d, %.0f s", interval_s=10)

    def row(round_: int, purpose: str, prefix: int, reply: Reply, others: int = 0) -> Row:
        return Row(
            variant, round_, purpose, reply.prompt_tokens, prefix, reply.cached_tokens,
            reply.output_tokens, round(1e3 * reply.ttft_s, 3), round(1e3 * reply.total_s, 3),
            round(time.monotonic() - start, 3), others,
        )  # fmt: skip

    def begin(round_: int) -> bool:
        elapsed = time.monotonic() - start
        if deadline_s is not None and elapsed > deadline_s:
            logger.warning("%s: time is up in round %d of %d", variant, round_, plan.rounds)
            return False
        heartbeat.beat(variant, round_, plan.rounds, elapsed)
        return True

    def cold(prompt: Prompt) -> tuple[str, Reply]:
        purpose = "cold" if prompt.output == 1 else "decode"
        return purpose, client.generate(tokens.choices(TOKEN_IDS, k=prompt.length), prompt.output)

    for round_ in range(-plan.warmup_rounds, plan.rounds):
        prompts = plan.prompts
        tokens.shuffle(prompts)
        for prompt in prompts:
            if not begin(round_):
                return
            client.flush()
            if prompt.prefix:
                ids = tokens.choices(TOKEN_IDS, k=prompt.length)
                begun = client.generate(ids[: prompt.prefix])
                yield row(round_, "prefix", 0, begun)
                # as the next turn of a conversation: Marconi keeps the state behind the reply
                known = [*ids[: prompt.prefix], *begun.output_ids]
                yield row(round_, "hit", len(known), client.generate(known + ids[len(known) :]))
            else:
                purpose, reply = cold(prompt)
                yield row(round_, purpose, 0, reply)
        for others in plan.others:
            if not begin(round_):
                return
            client.flush()
            beside = [tokens.choices(TOKEN_IDS, k=OTHER_PROMPT) for _ in range(others)]
            with decoding(client, beside, plan.other_tokens):
                replies = [cold(prompt) for prompt in plan.busy_prompts]
            for purpose, reply in replies:  # not before it is known that the others were there
                yield row(round_, purpose, 0, reply, others)


class Cell(NamedTuple):
    """Requests alike, over all measured rounds: medians and spread in milliseconds."""

    others: int
    prompt_tokens: int
    cached_tokens: int
    requests: int
    median_ms: float
    low_ms: float
    high_ms: float


def summarize(rows: Sequence[Row]) -> list[Cell]:
    """Return time to first token per prompt length, cached tokens and others, warm-up left out."""
    groups: dict[tuple[int, int, int], list[float]] = defaultdict(list)
    for row in rows:
        if row.round >= 0:
            groups[row.others, row.prompt_tokens, row.cached_tokens].append(row.ttft_ms)
    return [
        Cell(*key, len(times), statistics.median(times), min(times), max(times))
        for key, times in sorted(groups.items())
    ]


def table(cells: Iterable[Cell]) -> str:
    """Return the summary as text."""
    lines = ["others  prompt  cached  requests  TTFT ms: median (lowest to highest)"]
    lines += [
        f"{c.others:6d}  {c.prompt_tokens:6d}  {c.cached_tokens:6d}  {c.requests:8d}  "
        f"{c.median_ms:.1f} ({c.low_ms:.1f} to {c.high_ms:.1f})"
        for c in cells
    ]
    return "\n".join(lines)
