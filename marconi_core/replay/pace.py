"""What of a trace says when a request is due, whether time is real or virtual."""

import numpy as np
from numpy.typing import NDArray

from marconi_core.replay.options import ReplayOptions
from marconi_core.serving.errors import ReplayError
from marconi_core.traces.trace import Trace


def planned(trace: Trace, options: ReplayOptions) -> int:
    """Return how many requests of a trace are replayed."""
    return min(options.requests or len(trace), len(trace))


def check_outputs(trace: Trace, requests: int) -> None:
    """Raise ReplayError if one of the first requests of the trace has no output."""
    silent = np.flatnonzero(trace.n_out[:requests] == 0)
    if len(silent):
        raise ReplayError(
            f"request {silent[0]} of the trace has no output tokens; a server generates at least one"
        )


def arrivals_s(trace: Trace, requests: int, speed: float | None) -> NDArray[np.float64]:
    """Return float64[requests]: when each request arrives, in seconds after the first.

    Args:
        speed: factor by which arrivals are faster than in the trace; None: all arrive at once.
    """
    if speed is None:
        return np.zeros(requests)
    ts = trace.ts[:requests]
    return (ts - ts.min()) / speed


def previous_turns(trace: Trace, requests: int) -> list[int | None]:
    """Return for each request the one before it in its session, None for the first."""
    latest: dict[int, int] = {}
    previous = []
    for i, session in enumerate(trace.session[:requests].tolist()):
        previous.append(latest.get(session))
        latest[session] = i
    return previous
