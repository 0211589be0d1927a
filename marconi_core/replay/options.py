"""How a trace is replayed."""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from marconi_core.serving.errors import ReplayError
from marconi_core.serving.fields import checked


class ReplayOptions(BaseModel):
    """When requests are sent, and what takes the place of recorded outputs.

    A request is sent as soon as everything that applies is fulfilled: its arrival time has come
    (`speed`), the turn before it has ended (`loop`), fewer than `concurrency` requests are in flight.
    Of several that wait for a slot, the first of the trace gets it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    speed: PositiveFloat | None = Field(
        None,
        allow_inf_nan=False,
        description="factor by which arrivals are faster than in the trace; None ignores their times",
    )
    concurrency: PositiveInt | None = Field(None, description="requests in flight at most")
    loop: Literal["closed", "open"] = Field(
        "closed",
        description="closed: a turn is not sent before its session's previous one has ended; open: it "
        "does not wait",
    )
    outputs: Literal["substituted", "forced"] = Field(
        "substituted",
        description="substituted: the server's replies take the place of recorded outputs in later "
        "prompts; forced: the server is made to reply with the recorded outputs",
    )
    requests: PositiveInt | None = Field(
        None, description="of the trace, from its start; None: all"
    )
    warmup: NonNegativeInt = Field(
        0,
        description="requests, from the trace's start, that a server replays once before and that are "
        "not recorded, so that kernels are compiled; the cache is emptied afterwards",
    )
    timeout_s: PositiveFloat = Field(
        600.0, description="longest silence of the server in a request"
    )

    @model_validator(mode="after")
    def _something_paces(self) -> Self:
        if self.speed is None and self.concurrency is None:
            raise ValueError("give speed, concurrency or both, else all requests are sent at once")
        return self

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> "ReplayOptions":
        """Return checked options.

        Raises:
            ReplayError: names every wrong or unknown field.
        """
        return checked(cls, fields, "replay", ReplayError)

    @property
    def server_fields(self) -> dict[str, bool]:
        """Fields of a `ServerSpec` that the server must have."""
        return {"forced_outputs": self.outputs == "forced"}
