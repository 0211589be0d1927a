"""Synthetic workloads with the kinds of sharing that prefix caches live on.

Nothing here is measured: token ids are random, lengths come from the distributions below. The
defaults resemble the agents of SWE-bench (long prompts, 20 to 51 turns, old observations dropped);
`mix` adds chats and few-shot prompts. The same parameters give the same workload each time, as long
as numpy keeps its random streams.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    field_validator,
    model_validator,
)

from marconi_core.traces.sessions import HistoryRule, NewTokens, TokenArray, unroll
from marconi_core.traces.sources.base import Source, SourceParams, first_sessions
from marconi_core.traces.tokenizers import Encoder
from marconi_core.traces.trace import SessionTokens
from marconi_core.traces.tree import MAX_TOKEN

Kind = Literal["agent", "chat", "few_shot"]
PositiveNumber = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegativeNumber = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Knobs(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Lengths(_Knobs):
    """A lognormal number of tokens, at least 1."""

    median: PositiveNumber = Field(description="tokens")
    sigma: NonNegativeNumber = Field(
        default=0.5, description="standard deviation of the logarithm; 0 is a constant"
    )

    def draw(self, rng: np.random.Generator) -> int:
        """Return one length in tokens."""
        return max(1, round(float(rng.lognormal(np.log(self.median), self.sigma))))


class Turns(_Knobs):
    """A geometric number of turns, shifted to begin at `least` and cut at `most`."""

    mean: PositiveNumber = Field(description="mean number of turns, before the cut at `most`")
    least: PositiveInt = Field(default=1, description="smallest number of turns")
    most: PositiveInt = Field(default=1000, description="largest number of turns")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.least <= min(self.mean, self.most):
            raise ValueError("least must not exceed mean and most")
        return self

    def draw(self, rng: np.random.Generator) -> int:
        """Return one number of turns."""
        more = int(rng.geometric(1 / (self.mean - self.least + 1))) - 1
        return min(self.most, self.least + more)


class SharedPrompts(_Knobs):
    """System prompts, of which each session begins with one; popular ones begin many sessions."""

    number: NonNegativeInt = Field(default=4, description="different system prompts; 0 is none")
    zipf: NonNegativeNumber = Field(
        default=1.0, description="prompt k is chosen with weight 1/k**zipf; 0 is uniform"
    )
    tokens: Lengths = Field(default=Lengths(median=400, sigma=0.3), description="their lengths")


class Agents(_Knobs):
    """Agent loops: a task, then observations and actions in turn, old observations dropped."""

    turns: Turns = Field(default=Turns(mean=38, least=20, most=51), description="loop iterations")
    task: Lengths = Field(default=Lengths(median=1700, sigma=0.3), description="task texts")
    observation: Lengths = Field(
        default=Lengths(median=150, sigma=1.4), description="outputs of the environment"
    )
    action: Lengths = Field(
        default=Lengths(median=180, sigma=1.1), description="outputs of the model"
    )
    keep_observations: PositiveInt | None = Field(
        default=5, description="latest observations that stay in the prompt; empty keeps all"
    )


class Chats(_Knobs):
    """Multi-turn conversations: the whole history is the prompt."""

    turns: Turns = Field(default=Turns(mean=12), description="rounds of question and answer")
    question: Lengths = Field(default=Lengths(median=60, sigma=1.0), description="user messages")
    answer: Lengths = Field(
        default=Lengths(median=200, sigma=0.8), description="outputs of the model"
    )


class FewShots(_Knobs):
    """Single requests: a template's worked examples, then one question."""

    templates: PositiveInt = Field(default=8, description="different sets of examples")
    zipf: NonNegativeNumber = Field(default=1.0, description="popularity, as of system prompts")
    examples: PositiveInt = Field(default=8, description="examples in a template")
    example: Lengths = Field(default=Lengths(median=150, sigma=0.5), description="worked examples")
    question: Lengths = Field(default=Lengths(median=80, sigma=0.6), description="questions")
    answer: Lengths = Field(
        default=Lengths(median=60, sigma=0.8), description="outputs of the model"
    )


class SyntheticParams(SourceParams):
    """Options of `synthetic`; the defaults are the agent workload."""

    seed: NonNegativeInt = Field(default=0, description="of the whole workload")
    vocabulary: Annotated[int, Field(ge=2, le=MAX_TOKEN + 1)] = Field(
        default=32000, description="number of different token ids"
    )
    mix: dict[Kind, NonNegativeNumber] = Field(
        default={"agent": 1.0}, description="weight of each kind of session"
    )
    system_prompts: SharedPrompts = Field(
        default=SharedPrompts(), description="system prompts, which sessions of all kinds share"
    )
    agent: Agents = Field(default=Agents(), description="shape of agent sessions")
    chat: Chats = Field(default=Chats(), description="shape of chat sessions")
    few_shot: FewShots = Field(default=FewShots(), description="shape of few-shot sessions")

    @field_validator("mix")
    @classmethod
    def _some_weight(cls, mix: dict[Kind, float]) -> dict[Kind, float]:
        if sum(mix.values()) <= 0:
            raise ValueError("at least one kind of session needs a weight above 0")
        return mix


def read(
    params: SyntheticParams, files: Mapping[str, Path], encode: Encoder
) -> Iterator[SessionTokens]:
    """Yield random sessions; `files` and `encode` are not used."""
    return first_sessions(_Generator(params).sessions(), params.sessions, SOURCE.name)


class _Generator:
    """Draws sessions from one random stream; what sessions share is drawn first."""

    def __init__(self, params: SyntheticParams) -> None:
        self._params = params
        self._rng = np.random.Generator(np.random.PCG64(params.seed))
        prompts, few_shot = params.system_prompts, params.few_shot
        self._system_prompts = [self._tokens(prompts.tokens) for _ in range(prompts.number)]
        self._templates = [
            np.concatenate([self._tokens(few_shot.example) for _ in range(few_shot.examples)])
            for _ in range(few_shot.templates)
        ]

    def sessions(self) -> Iterator[SessionTokens]:
        """Yield sessions without end."""
        params = self._params
        kinds: list[Kind] = list(params.mix)
        weights = np.array([params.mix[kind] for kind in kinds])
        turns_of: dict[Kind, Callable[[], Iterator[NewTokens]]] = {
            "agent": self._agent_turns,
            "chat": self._chat_turns,
            "few_shot": self._few_shot_turns,
        }
        session_id = 0
        while True:
            kind = kinds[self._rng.choice(len(kinds), p=weights / weights.sum())]
            keep = params.agent.keep_observations if kind == "agent" else None
            rule = HistoryRule(max_tokens=params.max_tokens, keep_observations=keep)
            yield unroll(session_id, turns_of[kind](), rule)
            session_id += 1

    def _agent_turns(self) -> Iterator[NewTokens]:
        agent = self._params.agent
        for turn in range(agent.turns.draw(self._rng)):
            if turn == 0:
                observation = np.concatenate([self._system_prompt(), self._tokens(agent.task)])
            else:
                observation = self._tokens(agent.observation)
            yield NewTokens(observation, self._tokens(agent.action), user_words=0)

    def _chat_turns(self) -> Iterator[NewTokens]:
        chat = self._params.chat
        for turn in range(chat.turns.draw(self._rng)):
            question = self._tokens(chat.question)
            words = len(question) * 3 // 4  # a token is about three quarters of an English word
            if turn == 0:
                question = np.concatenate([self._system_prompt(), question])
            yield NewTokens(question, self._tokens(chat.answer), user_words=words)

    def _few_shot_turns(self) -> Iterator[NewTokens]:
        few_shot = self._params.few_shot
        template = self._popular(self._templates, few_shot.zipf)
        question = self._tokens(few_shot.question)
        prompt = np.concatenate([self._system_prompt(), template, question])
        yield NewTokens(prompt, self._tokens(few_shot.answer), user_words=0)

    def _system_prompt(self) -> TokenArray:
        prompts = self._system_prompts
        if not prompts:
            return np.empty(0, np.int32)
        return self._popular(prompts, self._params.system_prompts.zipf)

    def _popular(self, choices: list[TokenArray], zipf: float) -> TokenArray:
        weights = np.arange(1, len(choices) + 1) ** -zipf
        return choices[self._rng.choice(len(choices), p=weights / weights.sum())]

    def _tokens(self, lengths: Lengths) -> TokenArray:
        return self._rng.integers(
            self._params.vocabulary, size=lengths.draw(self._rng), dtype=np.int32
        )


SOURCE = Source(
    name="synthetic",
    summary="Synthetic sessions of random tokens: agents, chats, few-shot prompts",
    params=SyntheticParams,
    read=read,
    needs_tokenizer=False,
)
