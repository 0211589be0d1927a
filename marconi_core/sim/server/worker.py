"""Tunes alpha in a process of its own, beside the server that it follows.

    python -m marconi_core.sim.server.worker

Standard input carries frames (`write_frame`): first a `Following`; then a request, as a pair of
int64 arrays, for each that the server finished, or None when the server's cache was flushed.
Standard output carries one JSON object a line for each tuning: `request`, `alpha`, `scores`. The
process ends with its input.
"""

import json
import os
import pickle
import struct
import sys
from typing import IO, Any

from marconi_core.errors import PolicyError
from marconi_core.sim.server.tuning import Following, OnlineTuner, set_alpha

HEADER = struct.Struct("<Q")
NICENESS = 10
"""The server's own work comes first."""


def write_frame(stream: IO[bytes], content: Any) -> None:
    """Write one object: its pickled length, then the pickle."""
    body = pickle.dumps(content, protocol=pickle.HIGHEST_PROTOCOL)
    stream.write(HEADER.pack(len(body)) + body)
    stream.flush()


def read_frame(stream: IO[bytes]) -> Any:
    """Read one object.

    Raises:
        EOFError: the stream ends, maybe within a frame.
    """
    header = stream.read(HEADER.size)
    if len(header) < HEADER.size:
        raise EOFError
    (length,) = HEADER.unpack(header)
    body = stream.read(length)
    if len(body) < length:
        raise EOFError
    return pickle.loads(body)


def follow(requests: IO[bytes], answers: IO[str]) -> None:
    """Follow a server until the stream of its requests ends."""
    following: Following = read_frame(requests)
    tuner = OnlineTuner(following)
    while True:
        try:
            request = read_frame(requests)
        except EOFError:
            return
        if request is None:
            alpha = tuner.alpha
            tuner = OnlineTuner(following)
            set_alpha(tuner.simulator, alpha)  # the server goes on with it
            continue
        tunings = len(tuner.history)
        try:
            tuner.observe(*request)
        except PolicyError:
            continue  # too long for the pools as they are simulated; the server knows better
        for tuning in tuner.history[tunings:]:
            scores = {str(alpha): score for alpha, score in tuning.scores.items()}
            answer = {"request": tuning.request, "alpha": tuning.alpha, "scores": scores}
            answers.write(json.dumps(answer) + "\n")
            answers.flush()


if __name__ == "__main__":
    os.nice(NICENESS)
    follow(sys.stdin.buffer, sys.stdout)
