"""When requests arrive: as recorded; or sessions start at a fixed rate, turns after a think time.

The two processes with think times are the paper's. Times are added up in the order of the paper's
generator, so that even the last digit of a time, and with it the order of almost simultaneous requests,
is the same.
"""

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat

from marconi_core.errors import TraceError
from marconi_core.traces.trace import Workload

Positive = Annotated[PositiveFloat, Field(allow_inf_nan=False)]


class _Arrivals(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RecordedArrivals(_Arrivals):
    """Requests arrive when the data set says that they did."""

    kind: Literal["recorded"] = "recorded"

    @property
    def label(self) -> str:
        """Part of a trace's name."""
        return "recorded"

    def timestamps(self, workload: Workload) -> NDArray[np.float64]:
        """Return the arrival time of each request in seconds: float64[n], session-major order.

        Raises:
            TraceError: the data set does not give them.
        """
        if np.isnan(workload.recorded_ts).any():
            raise TraceError("arrivals: no times were recorded; choose another kind")
        return workload.recorded_ts


class _Sessions(_Arrivals):
    """Sessions start at a fixed rate, their turns follow after think times."""

    sessions_per_second: Positive = Field(description="arrival rate of sessions, 1/s")

    def timestamps(self, workload: Workload) -> NDArray[np.float64]:
        """Return the arrival time of each request in seconds: float64[n], session-major order."""
        sessions = len(workload.session_ids)
        first = np.searchsorted(workload.session, np.arange(sessions + 1))
        waits = self._think_times(workload, first)
        ts = np.empty(len(workload), np.float64)
        for session in range(sessions):
            turns = slice(first[session], first[session + 1])
            wait = waits[turns]
            wait[:1] = session / self.sessions_per_second
            ts[turns] = np.cumsum(wait)
        return ts

    def _think_times(self, workload: Workload, first: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return the seconds before each request since the previous one of its session.

        Args:
            first: intp[sessions + 1]; index of each session's first request; its value is ignored.
        """
        raise NotImplementedError


class TypingArrivals(_Sessions):
    """A person types the next message at a fixed speed."""

    kind: Literal["typing"] = "typing"
    words_per_minute: Positive = Field(default=90, description="typing speed, words a minute")

    @property
    def label(self) -> str:
        """Part of a trace's name, e.g. ``sps=0.25``."""
        return f"sps={_short(self.sessions_per_second)}"

    def _think_times(self, workload: Workload, first: NDArray[np.intp]) -> NDArray[np.float64]:
        return workload.user_words / (self.words_per_minute / 60)


class PoissonArrivals(_Sessions):
    """An agent's environment answers after a Poisson-distributed whole number of seconds."""

    kind: Literal["poisson"] = "poisson"
    mean_response_time: Positive = Field(description="mean time an action takes, s")
    seed: NonNegativeInt = Field(default=42, description="of the response times")

    @property
    def label(self) -> str:
        """Part of a trace's name, e.g. ``sps=1_art=7.5``."""
        rate, response = _short(self.sessions_per_second), _short(self.mean_response_time)
        return f"sps={rate}_art={response}"

    def _think_times(self, workload: Workload, first: NDArray[np.intp]) -> NDArray[np.float64]:
        generator = np.random.RandomState(self.seed)  # the legacy stream is the paper's
        waits = np.zeros(len(workload), np.float64)
        for session, drawn_turns in enumerate(workload.drawn_turns):
            # turn 0 draws nothing; the turn that broke a limit draws, though it makes no request
            draws = generator.poisson(self.mean_response_time, size=max(drawn_turns - 1, 0))
            following = slice(first[session] + 1, first[session + 1])
            waits[following] = draws[: max(following.stop - following.start, 0)]
        return waits


Arrivals = Annotated[
    RecordedArrivals | TypingArrivals | PoissonArrivals, Field(discriminator="kind")
]


def _short(value: float) -> str:
    """Return a number as the paper's file names have it: 1 and not 1.0, 0.25, 7.5."""
    return str(int(value)) if value == int(value) else repr(float(value))
