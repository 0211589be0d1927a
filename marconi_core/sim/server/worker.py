"""Tunes alpha in a process of its own, beside the server that it follows.

    python -m marconi_core.sim.server.worker

Standard input carries frames (`write_frame`): first a `Following`; then a request for each that the
server finished, or None when the server's cache was flushed. A request is a pair of int64 arrays,
prompt and output, and behind it, if the server tells, the hit that it gave and its alpha at that time.
Standard output carries JSON objects, one a line: for each tuning `request`, `alpha`, `scores`, and how many
`flushes` came before; for each hit that was told `shadow`, which compares all of them with the
simulator's. The process ends with its input.
"""

import json
import os
import pickle
import struct
import sys
from dataclasses import asdict, dataclass
from typing import IO, Any

from marconi_core.errors import PolicyError
from marconi_core.sim.server.tuning import Following, OnlineTuner

HEADER = struct.Struct("<Q")
NICENESS = 10
"""The server's own work comes first."""


@dataclass
class Shadow:
    """How the simulator that follows a server compares with it, since it was started.

    Attributes:
        requests, input_tokens: compared.
        mismatches: requests with another hit than the server gave, or that do not fit the pools.
        hit_tokens: hits of the simulator.
    """

    requests: int = 0
    input_tokens: int = 0
    mismatches: int = 0
    hit_tokens: int = 0

    def compare(self, input_tokens: int, served: int, predicted: int | None) -> None:
        """Count one more request; `predicted` is None if it does not fit the simulator's pools."""
        self.requests += 1
        self.input_tokens += input_tokens
        self.mismatches += served != predicted
        self.hit_tokens += predicted or 0


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
    tuner, shadow, flushes = OnlineTuner(following), Shadow(), 0

    def answer(content: dict[str, Any]) -> None:
        answers.write(json.dumps(content) + "\n")
        answers.flush()

    while True:
        try:
            request = read_frame(requests)
        except EOFError:
            return
        if request is None:
            tuner, flushes = OnlineTuner(following), flushes + 1
            continue
        prompt, output, served, alpha = (*request, None, None)[:4]
        try:
            hit = tuner.observe(prompt, output, alpha)
        except PolicyError:
            hit = None  # too long for the pools as they are simulated; the server knows better
        if served is not None:
            shadow.compare(len(prompt), served, hit)
            answer({"shadow": asdict(shadow)})
        for tuning in tuner.history:
            scores = {str(alpha): score for alpha, score in tuning.scores.items()}
            tuned = {"request": tuning.request, "alpha": tuning.alpha, "scores": scores}
            answer({**tuned, "flushes": flushes})
        tuner.history.clear()  # so that memory stays bounded


if __name__ == "__main__":
    os.nice(NICENESS)
    follow(sys.stdin.buffer, sys.stdout)
