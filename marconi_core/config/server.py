"""The section `server`: which pools of a server are simulated, on which traces."""

from typing import Self

from pydantic import Field, NonNegativeFloat, PositiveInt, field_validator, model_validator

from marconi_core.config.section import Section
from marconi_core.errors import MarconiError
from marconi_core.models import load_hybrid_model
from marconi_core.sim.server.engine import PoolSizes
from marconi_core.sim.server.leader import LEADER_ALPHAS


class Pools(Section):
    """Sizes of a server's two pools."""

    states: PositiveInt = Field(description="slots for SSM states")
    kv_tokens: PositiveInt = Field(description="tokens whose KVs fit")

    @model_validator(mode="after")
    def _hold_a_request(self) -> Self:
        try:
            self.sizes()
        except MarconiError as error:
            raise ValueError(str(error)) from None
        return self

    def sizes(self) -> PoolSizes:
        """Return them as the simulator takes them."""
        return PoolSizes(self.kv_tokens, self.states)


class ServerConfig(Section):
    """The study of a server: every policy, on pools from tight to ample."""

    model: str = Field(
        "nemotron_h_8b",
        description="a name of `resources/models`, or the path of a Hugging Face `config.json`",
    )
    chunk: PositiveInt | None = Field(
        8192, description="`--chunked-prefill-size` in tokens; null for no chunked prefill"
    )
    alphas: tuple[NonNegativeFloat, ...] = Field(
        LEADER_ALPHAS, min_length=1, description="alphas that are kept fixed, and tried by tuners"
    )
    pools: dict[str, tuple[Pools, ...]] = Field(
        description="sizes of the two pools, by trace",
        examples=[{"sharegpt_sps=1_nums=100": [{"states": 40, "kv_tokens": 1760000}]}],
    )

    @field_validator("model")
    @classmethod
    def _known_model(cls, model: str) -> str:
        try:
            load_hybrid_model(model)
        except MarconiError as error:
            raise ValueError(str(error)) from None
        return model
