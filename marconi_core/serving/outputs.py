"""Does a cache hit change what the model computes? Fingerprints of the next token, hit and cold.

A hit resumes from a cached state. Were it the wrong one (of another prefix, or copied while another
step wrote it), the model would go on from a wrong history. So each prompt is served cold and from the
cache, and two things are compared: the greedy output, and the log probabilities of some fixed tokens at
its first position, a fingerprint of all that the model computed. Only few tokens follow the hit,
because a state forgets.

Numbers need a scale. Its lower end is the same cold prompt served twice, and stock SGLang's own hits;
its upper end a prompt with other tokens before the hit, which is what a wrong state looks like.
"""

import logging
import random
import statistics
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt

from marconi_core.progress import Heartbeat
from marconi_core.serving.client import Client, Reply
from marconi_core.serving.errors import ServingError
from marconi_core.serving.ttft import TOKEN_IDS

logger = logging.getLogger(__name__)

Prompt = list[int]


class Plan(BaseModel):
    """What is compared: families of prompts that share a prefix."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    families: PositiveInt = Field(100, description="shared prefixes; each gives three hits")
    prefix_tokens: tuple[PositiveInt, PositiveInt] = Field(
        (200, 3000), description="fewest and most tokens of a shared prefix"
    )
    first_tokens: PositiveInt = Field(
        150, description="tokens that the two requests before the hits have for themselves"
    )
    fresh_tokens: PositiveInt = Field(4, description="most tokens that follow a hit")
    output_tokens: PositiveInt = Field(16, description="greedy tokens of every request")
    fingerprint: PositiveInt = Field(
        64, ge=2, description="tokens whose log probabilities are kept"
    )
    other_tokens: PositiveInt = Field(
        8, description="tokens before the hit that the control changes"
    )
    control_every: PositiveInt = Field(
        4, description="of so many families, one is served cold again, and after other tokens"
    )
    in_flight: tuple[PositiveInt, ...] = Field((1, 8), description="requests at a time")
    seed: NonNegativeInt = Field(1, description="of all token ids and lengths")

    @property
    def requests(self) -> int:
        """Rows that the comparison gives."""
        controlled = -(-self.families // self.control_every)
        return 3 * (self.families * len(self.in_flight) + 2 * controlled)


class Row(NamedTuple):
    """One reply beside the reply to the same prompt, served cold.

    Attributes:
        family: number of the shared prefix.
        kind: where the prompt resumes: ``branch`` and ``branch again``, behind the shared prefix;
            ``turn``, behind the output of the former.
        served: ``again``: cold once more; ``other``: cold, after other tokens (a control);
            ``hit``: from the cache.
        in_flight: requests at a time.
        prompt_tokens, cached_tokens: as the server counted.
        distance: of the fingerprints: root mean square of their difference over the standard
            deviation of the cold one, both without their means. 0 is equal, 1.4 unrelated.
        equal_tokens: length of the common beginning of both outputs.
        output_tokens: their length.
    """

    family: int
    kind: str
    served: str
    in_flight: int
    prompt_tokens: int
    cached_tokens: int
    distance: float
    equal_tokens: int
    output_tokens: int


class _Family:
    """Prompts that share a prefix: two that make its branch point known, and those that hit."""

    def __init__(self, plan: Plan, number: int) -> None:
        dice = random.Random(f"{plan.seed} {number}")

        def tokens(count: int) -> Prompt:
            return dice.choices(TOKEN_IDS, k=count)

        self.prefix = tokens(dice.randint(*plan.prefix_tokens))
        self.first = [self.prefix + tokens(plan.first_tokens) for _ in range(2)]
        self.branches = [self.prefix + tokens(dice.randint(1, plan.fresh_tokens)) for _ in range(2)]
        self._turn = tokens(dice.randint(1, plan.fresh_tokens))
        self._others = tokens(plan.other_tokens)

    def turn(self, output: Sequence[int]) -> Prompt:
        """Return the prompt that continues the first branch's output."""
        return [*self.branches[0], *output, *self._turn]

    def control(self, prompt: Prompt, behind: int) -> Prompt:
        """Return a prompt with other tokens right before position `behind`."""
        return prompt[: behind - len(self._others)] + self._others + prompt[behind:]


def compare(client: Client, plan: Plan) -> Iterator[Row]:
    """Serve every prompt cold, then from the cache; yield a row for each comparison.

    Args:
        client: a server for token ids, alone in use.

    Raises:
        ServingError: a request failed; the rows so far have been yielded.
    """
    ids = random.Random(plan.seed).sample(TOKEN_IDS, plan.fingerprint)
    asking: dict[str, Any] = {"return_logprob": True, "token_ids_logprob": ids}
    families = [_Family(plan, number) for number in range(plan.families)]
    heartbeat = Heartbeat(logger, "outputs: %d of %d requests", interval_s=10)
    done = 0

    def ask(prompt: Prompt) -> Reply:
        reply = client.generate(prompt, plan.output_tokens, **asking)
        came = len(reply.output_ids), len(reply.logprobs)
        if came != (plan.output_tokens, plan.fingerprint):
            raise ServingError(
                f"{client.url}: {came[0]} token ids and {came[1]} log probabilities came back instead "
                f"of {plan.output_tokens} and {plan.fingerprint}; the server must send token ids "
                "(no tokenizer)"
            )
        return reply

    def cold(prompt: Prompt) -> Reply:
        client.flush()
        return ask(prompt)

    def row(
        family: int, kind: str, served: str, in_flight: int, reply: Reply, reference: Reply
    ) -> Row:
        equal = 0
        while equal < plan.output_tokens and reply.output_ids[equal] == reference.output_ids[equal]:
            equal += 1
        apart = distance(reply.logprobs, reference.logprobs)
        return Row(
            family, kind, served, in_flight, reply.prompt_tokens, reply.cached_tokens,
            round(apart, 6), equal, plan.output_tokens,
        )  # fmt: skip

    references: list[dict[str, tuple[Prompt, Reply]]] = []
    for number, family in enumerate(families):
        known: dict[str, tuple[Prompt, Reply]] = {}
        resumed = {"branch": len(family.prefix), "branch again": len(family.prefix)}
        for kind, prompt in zip(resumed, family.branches, strict=True):
            known[kind] = prompt, cold(prompt)
        turn = family.turn(known["branch"][1].output_ids)
        known["turn"] = turn, cold(turn)
        resumed["turn"] = len(family.branches[0]) + plan.output_tokens - 1
        references.append(known)
        if number % plan.control_every:
            continue
        for kind, (prompt, reference) in known.items():
            again, other = cold(prompt), cold(family.control(prompt, resumed[kind]))
            yield row(number, kind, "again", 1, again, reference)
            yield row(number, kind, "other", 1, other, reference)
            done += 2
            heartbeat.beat(done, plan.requests)

    def from_cache(number: int) -> dict[str, Reply]:
        family = families[number]
        for prompt in family.first:
            ask(prompt)
        return {kind: ask(prompt) for kind, (prompt, _) in references[number].items()}

    for in_flight in plan.in_flight:
        client.flush()
        with ThreadPoolExecutor(in_flight) as pool:
            for number, replies in enumerate(pool.map(from_cache, range(plan.families))):
                for kind, reply in replies.items():
                    yield row(number, kind, "hit", in_flight, reply, references[number][kind][1])
                    done += 1
                heartbeat.beat(done, plan.requests)


def distance(one: Sequence[float], other: Sequence[float]) -> float:
    """Return how far two fingerprints are apart; see `Row.distance`."""
    scale = statistics.pstdev(other)
    mean, mean_other = statistics.fmean(one), statistics.fmean(other)
    square = statistics.fmean(
        ((a - mean) - (b - mean_other)) ** 2 for a, b in zip(one, other, strict=True)
    )
    return float(square**0.5 / scale) if scale else float(square > 0)


def table(rows: Iterable[Row]) -> str:
    """Return a summary in Markdown: distances and equal outputs by kind and way of serving."""
    cells: dict[tuple[str, int, str], list[Row]] = {}
    for row in rows:
        cells.setdefault((row.served, row.in_flight, row.kind), []).append(row)
    lines = [
        "| served | in flight | resumes at | requests | that hit | distance, median | largest |"
        " equal outputs |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (served, in_flight, kind), members in cells.items():
        distances = [row.distance for row in members]
        equal = sum(row.equal_tokens == row.output_tokens for row in members)
        lines.append(
            f"| {served} | {in_flight} | {kind} | {len(members)} | "
            f"{sum(row.cached_tokens > 0 for row in members)} | {statistics.median(distances):.4f} | "
            f"{max(distances):.4f} | {equal} |"
        )
    return "\n".join(lines)


def wrong(rows: Sequence[Row]) -> int:
    """Return how many hits look like a wrong state: further from the cold reply than the border.

    The border is half of the smallest distance that the control has.

    Raises:
        ServingError: controls are not seen either, so that a wrong state would not be.
    """
    noise = max(row.distance for row in rows if row.served == "again")
    border = min(row.distance for row in rows if row.served == "other") / 2
    if border <= noise:
        raise ServingError(
            f"a prompt after other tokens is as near ({2 * border:.4f}) to the cold reply as the same "
            f"prompt served twice ({noise:.4f}): wrong states would not be seen; serve real weights, or "
            "those of `random-weights`"
        )
    return sum(row.distance > border for row in rows if row.served == "hit")
