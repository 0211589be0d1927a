"""Times and memory from a thousand requests to a million: reading, loading and simulating a trace.

    make bench-scaling

Each step runs in a process of its own, so that its peak memory is its own (about 200 MiB of it are
Python, numba and numpy). Seconds are CPU seconds, compiled code warm. The requests are random chats of
ten turns, 200 at a time, 130 tokens on average; the cache has the same size throughout. Beside the
million, two things that should cost no more than they must: a file in Mooncake's format of the size of its
published traces (random, not theirs), and a line of a gigabyte.

Rows go to benchmarks/scaling.csv, the figure to benchmarks/scaling.svg.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from marconi_core.errors import TraceError
from marconi_core.files import atomic_path
from marconi_core.models import MODELS
from marconi_core.plots.style import (
    POLICY_COLORS,
    POLICY_LINES,
    POLICY_NAMES,
    SERIES_COLORS,
    paper_style,
    save,
)
from marconi_core.sim.simulation import simulate
from marconi_core.traces.jsonl import read_requests
from marconi_core.traces.sources import mooncake
from marconi_core.traces.trace import Request, Trace

SIZES = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
POLICIES = ("vllm_plus", "sglang_plus", "marconi")
CAPACITY = 4e10
TURNS, ACTIVE = 10, 200
MOONCAKE_REQUESTS, MOONCAKE_BLOCKS = 23_608, 17  # requests and mean blocks of the published traces
FOLDER = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="numbers of requests")
    parser.add_argument("--output", type=Path, default=FOLDER, help="folder for CSV and figure")
    parser.add_argument("--step", nargs=2, metavar=("STEP", "FILE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        step, file = options.step
        print(json.dumps(STEPS[step](Path(file))))
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        for size in options.sizes:
            write_chats(path / "chats.jsonl", size)
            rows += measured("chats", "compile", path / "chats.jsonl")
            rows += measured("chats", "simulate", path / "chats.npz")
        write_mooncake(path / "mooncake.jsonl", MOONCAKE_REQUESTS)
        rows += measured("mooncake format", "compile_mooncake", path / "mooncake.jsonl")
        rows += measured("mooncake format", "simulate", path / "mooncake.npz")
        write_long_line(path / "line.jsonl")
        rows += measured("line of 1 GB", "refuse", path / "line.jsonl")
    table = pd.DataFrame(rows)
    with atomic_path(options.output / "scaling.csv") as partial:
        table.to_csv(partial, index=False, float_format="%.4g")
    draw(table[table["data"] == "chats"], options.output / "scaling.svg")
    print(table.to_string(index=False))


def measured(data: str, step: str, file: Path) -> list[dict[str, Any]]:
    """Run a step in a process of its own; return its rows."""
    in_own_process("warm_up", file)  # what has to be compiled is kept on disk from here on
    found = in_own_process(step, file)
    common = {key: found[key] for key in ("requests", "tokens", "peak_mib")}
    rows = [
        {"data": data, "step": name, "cpu_seconds": seconds, **common}
        for name, seconds in found["cpu_seconds"].items()
    ]
    print(pd.DataFrame(rows).to_string(index=False, header=False), file=sys.stderr, flush=True)
    return rows


def in_own_process(step: str, file: Path) -> Any:
    command = [sys.executable, __file__, "--step", step, str(file)]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(printed)


def compile_trace(file: Path) -> dict[str, Any]:
    warm_up()
    seconds, trace = timed(lambda: Trace.build(read_requests(file)))
    trace.save(file.with_suffix(".npz"))
    return result({"read and compile": seconds}, trace)


def compile_mooncake(file: Path) -> dict[str, Any]:
    warm_up()
    seconds, trace = timed(lambda: Trace.build(mooncake.read_requests(file)))
    trace.save(file.with_suffix(".npz"))
    return result({"read and compile": seconds}, trace)


def simulate_trace(file: Path) -> dict[str, Any]:
    warm_up()
    load, trace = timed(lambda: Trace.load(file))
    seconds = {"load": load}
    for policy in POLICIES:
        seconds[policy], _ = timed(
            lambda p=policy: simulate(trace, p, CAPACITY, MODELS["paper_7b"])
        )
    return result(seconds, trace)


def refuse(file: Path) -> dict[str, Any]:
    def attempt() -> None:
        try:
            Trace.build(read_requests(file))
        except TraceError as error:
            print(error, file=sys.stderr)

    warm_up()
    seconds, _ = timed(attempt)
    return result({"refuse": seconds}, None)


STEPS = {
    "warm_up": lambda file: warm_up(),
    "compile": compile_trace,
    "compile_mooncake": compile_mooncake,
    "simulate": simulate_trace,
    "refuse": refuse,
}


def warm_up() -> None:
    """Load all compiled code."""
    trace = Trace.build(Request(i, 0, float(i), [1, i, 2], [3]) for i in range(200))
    with tempfile.TemporaryDirectory() as folder:
        trace.save(Path(folder) / "t.npz")
        trace = Trace.load(Path(folder) / "t.npz")
    for policy in POLICIES:
        simulate(trace, policy, 1e9, MODELS["paper_7b"])


def timed(function: Any) -> tuple[float, Any]:
    start = time.process_time()
    value = function()
    return time.process_time() - start, value


def result(seconds: dict[str, float], trace: Trace | None) -> dict[str, Any]:
    tokens = int(trace.n_in.sum() + trace.n_out.sum()) if trace else 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "requests": len(trace) if trace else 0,
        "tokens": tokens,
        "peak_mib": round(peak),
        "cpu_seconds": seconds,
    }


def write_chats(path: Path, requests: int) -> None:
    with path.open("w", encoding="utf-8") as file:
        for number, (session, turn, prompt, reply) in zip(range(requests), chats(), strict=False):
            row = {
                "session_id": session, "turn_id": turn, "ts": number / 10,
                "num_input_tokens": len(prompt), "num_output_tokens": len(reply),
                "input_tokens": prompt, "output_tokens": reply,
            }  # fmt: skip
            file.write(json.dumps(row) + "\n")


def chats() -> Iterator[tuple[int, int, list[int], list[int]]]:
    """Yield (session, turn, prompt, reply) without end; each session begins with a shared prompt."""
    rng = np.random.Generator(np.random.PCG64(0))
    shared = rng.integers(32_000, size=(64, 20)).tolist()
    active: list[tuple[int, int, list[int]]] = []
    sessions = 0
    while True:
        while len(active) < ACTIVE:
            active.append((sessions, 0, shared[int(rng.integers(64))]))
            sessions += 1
        place = int(rng.integers(ACTIVE))
        session, turn, history = active[place]
        new = rng.integers(32_000, size=20).tolist()
        prompt, reply = history + new[:8], new[8:]
        yield session, turn, prompt, reply
        if turn + 1 < TURNS:
            active[place] = (session, turn + 1, prompt + reply)
        else:
            active[place] = active[-1]
            active.pop()


def write_mooncake(path: Path, requests: int) -> None:
    """Write random chats in Mooncake's format; each goes on after most of its requests."""
    rng = np.random.Generator(np.random.PCG64(1))
    histories: list[list[int]] = [[0]]
    blocks = 1
    with path.open("w", encoding="utf-8") as file:
        for number in range(requests):
            place = int(rng.integers(len(histories)))
            own = int(rng.geometric(2 / MOONCAKE_BLOCKS))
            hashes = histories[place] + list(range(blocks, blocks + own))
            blocks += own
            row = {
                "timestamp": 150 * number,
                "input_length": 512 * len(hashes) - int(rng.integers(512)),
                "output_length": int(rng.integers(1, 400)),
                "hash_ids": hashes,
            }
            file.write(json.dumps(row) + "\n")
            if len(histories) < ACTIVE:
                histories.append(hashes[:-1])  # the last block is not full
            else:
                histories[place] = hashes[:-1] if rng.random() < 0.5 else [0]


def write_long_line(path: Path) -> None:
    with path.open("wb") as file:
        file.write(b'{"session_id": 0, "turn_id": 0, "ts": 0, "input_tokens": [1')
        block = b", 12345" * 149_797
        while file.tell() < 1 << 30:
            file.write(block)


def draw(rows: pd.DataFrame, path: Path) -> None:
    """Draw seconds and memory against requests; dotted: in proportion to the requests."""
    from matplotlib.figure import Figure

    looks = {
        "read and compile": {"color": SERIES_COLORS[2], "marker": "s"},
        "load": {"color": "black", "marker": "D"},
    } | {
        p: {"color": POLICY_COLORS[p], "linestyle": POLICY_LINES[p], "marker": "o"}
        for p in POLICIES
    }
    names = POLICY_NAMES | {
        "read and compile": "read JSONL, compile",
        "load": "load compiled, check",
    }
    with paper_style():
        figure = Figure(figsize=(7.0, 3.2), layout="constrained")
        times, memory = figure.subplots(1, 2)
        for step, own in rows.groupby("step", sort=False):
            times.plot(
                own["requests"], own["cpu_seconds"], label=names[step], markersize=3, **looks[step]
            )
        largest = rows[rows["step"] == "read and compile"].iloc[-1]
        ends = rows["requests"].agg(["min", "max"])
        times.plot(
            ends, largest["cpu_seconds"] * ends / largest["requests"], ":", color="#999999", linewidth=1,
        )  # fmt: skip
        times.set(xscale="log", yscale="log", xlabel="requests", ylabel="CPU seconds")
        for step, label in (
            ("read and compile", "read JSONL, compile"),
            ("load", "load, simulate"),
        ):
            own = rows[rows["step"] == step]
            memory.plot(own["requests"], own["peak_mib"], label=label, markersize=3, **looks[step])
        memory.set(xlabel="requests", ylabel="peak memory (MiB)", ylim=(0, None))
        times.legend(fontsize=7)
        memory.legend(fontsize=7)
    save(figure, path)


if __name__ == "__main__":
    main()
