"""The section `live`: which servers are measured, on which traces."""

import os
import re
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, Self

from pydantic import Field, PositiveInt, field_validator, model_validator

from marconi_core.config.section import Section
from marconi_core.errors import MarconiError
from marconi_core.replay.options import ReplayOptions
from marconi_core.serving.spec import ServerSpec

TEKKEN, KEEP = "tekken", "keep"
VARIANT = re.compile(r"(?P<variant>\w+)(?:@(?P<alpha>[\d.]+))?")  # "marconi@0.5"


class Pools(NamedTuple):
    """One server of the study: how it keeps prefixes, and how many states it has room for, if fixed."""

    variant: str
    states: int | None

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.variant}_states={self.states}"


class LiveConfig(Section):
    """Live measurements: on this machine's GPU, on a simulated server, or as recorded."""

    server: Literal["auto", "sglang", "simulated", "recorded"] = Field(
        "auto",
        description="`sglang`: measured here, on a GPU; `simulated`: no measurement, see "
        "`marconi_core/serving/simulated`; `recorded`: taken from `resources/recorded`; `auto`: "
        "`sglang` where nvidia-smi finds a GPU, else `recorded`",
    )
    model: str = Field(
        "nemotron_h_8b",
        description="as in `ServerSpec`: a name of `resources/models` for random weights, a folder, or a "
        "name on the hub",
    )
    tokenizer: str = Field(
        TEKKEN,
        description="vocabulary that traces are translated into: the `tokenizer.json` of the model; "
        "`tekken`, which stands in for it; `keep`: the token ids stay as they are, as made-up ones have to",
    )
    variants: tuple[str, ...] = Field(
        (
            "no_cache",
            "no_buffer",
            "extra_buffer",
            "admission_only",
            "marconi@1",
            "marconi",
            "seglen",
        ),
        min_length=1,
        description="ways of keeping prefixes (`marconi_core/serving/spec.py`), `NAME` or `NAME@ALPHA`",
    )
    parity: tuple[str, ...] = Field(
        ("no_buffer", "marconi_no_buffer@1"),
        description="variants whose cached tokens are compared with the simulator's, request by request",
    )
    states: tuple[PositiveInt, ...] = Field(
        (160,), min_length=1, description="sizes of the pool of SSM states"
    )
    kv_tokens: PositiveInt | None = Field(
        None, description="size of the KV pool in tokens; null: all memory that is left"
    )
    settings: dict[str, Any] = Field(
        default_factory=dict, description="more fields of `ServerSpec`, such as `weights: real`"
    )
    site: str | None = Field(
        None, description="folder of SGLang's packages, such as an unpacked bundle (docs/gpu.md)"
    )
    kernels: str | None = Field(None, description="folder of compiled kernels")
    traces: tuple[str, ...] = Field(
        min_length=1,
        description="names of traces of the data sets to replay",
        examples=[["sharegpt_sps=1_nums=100"]],
    )
    replay: ReplayOptions = Field(
        description="how requests are sent", examples=[{"concurrency": 8}]
    )
    repeats: PositiveInt = Field(1, description="replays of each trace")
    quick: bool = Field(
        False,
        description="parity and TTFT on a few requests only: to try the chain, not to measure",
    )

    @field_validator("tokenizer")
    @classmethod
    def _tokenizer_is_there(cls, tokenizer: str) -> str:
        if tokenizer not in (TEKKEN, KEEP) and not os.path.isfile(tokenizer):
            raise ValueError(f"{tokenizer} is no file; name a tokenizer.json, `tekken` or `keep`")
        return tokenizer

    @model_validator(mode="after")
    def _servers_can_be_described(self) -> Self:
        for variant in (*self.variants, *self.parity):
            try:
                self.spec(Pools(variant, self.states[0]))
            except MarconiError as error:
                raise ValueError(f"{variant}: {error}") from None
        return self

    @property
    def vocabulary(self) -> str:
        """What file names call the vocabulary of the replayed traces."""
        return {TEKKEN: "tekken", KEEP: "llama2"}.get(self.tokenizer, "own")

    @property
    def pools(self) -> Iterator[Pools]:
        """Every server of the study.

        One without a cache comes once, with the first number of states: there, they only limit how
        many requests run at a time.
        """
        for variant in self.variants:
            for states in self.states[: 1 if variant == "no_cache" else None]:
                yield Pools(variant, states)

    def spec(self, pools: Pools, **more: Any) -> ServerSpec:
        """Return the description of a server, with more fields if need be.

        Raises:
            ServingError: names the field that is wrong.
        """
        match = VARIANT.fullmatch(pools.variant)
        fields = dict(match.groupdict() if match else {"variant": pools.variant})
        return ServerSpec.of(
            {
                **fields,
                "server": "simulated" if self.server == "simulated" else "sglang",
                "model": self.model,
                "max_mamba_cache_size": pools.states,
                "max_total_tokens": self.kv_tokens,
                **self.settings,
                **more,
            }
        )

    def server_words(self, variant: str, states: int | None = None, **more: Any) -> list[str]:
        """Return the words that name a server to ``python -m marconi_core.serving``.

        Args:
            states: size of the pool of states; None where the command decides on all sizes.
            more: further fields of `ServerSpec`.
        """
        spec = self.spec(Pools(variant, states), **more)
        given = spec.model_dump(exclude_unset=True, exclude_none=True)
        if states is None:
            given.pop("max_total_tokens", None)
        words = ["--variant", given.pop("variant"), "--model", given.pop("model"), "--set"]
        for field, value in given.items():
            words.append(
                f"{field}={' '.join(map(str, value)) if isinstance(value, tuple) else value}"
            )
        for option, folder in (("--site", self.site), ("--kernels", self.kernels)):
            words += [option, folder] if folder else []
        return words

    def replay_words(self, repeats: int | None = None) -> list[str]:
        """Return the options of ``python -m marconi_core.serving replay``.

        Args:
            repeats: of each trace; None for as many as are configured.
        """
        words = ["--repeats", str(repeats or self.repeats)]
        for name, value in self.replay.model_dump(exclude_unset=True, exclude_none=True).items():
            words += [f"--{name.replace('_', '-')}", str(value)]
        return words
