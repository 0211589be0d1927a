"""What all sections of the configuration have in common."""

from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator


class Section(BaseModel):
    """A part of the configuration: unknown keys are errors, values cannot change, nothing is given twice."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*")
    @classmethod
    def _given_once(cls, value: Any) -> Any:
        if isinstance(value, tuple):
            twice = [one for n, one in enumerate(value) if one in value[:n]]
            if twice:
                raise ValueError(f"{twice[0]} is given twice")
        return value
