"""Times and memory from a thousand requests to a million: reading, loading and simulating a trace.

    make bench-scaling [DATA_MIRROR=FOLDER]

Each step runs in a process of its own, so that its peak memory is its own (about 200 MiB of it are
Python, numba and numpy). Seconds are CPU seconds, compiled code warm. The requests are random chats of
ten turns, 200 at a time, 130 tokens on average; the cache has the same size throughout. Beside them, real
ones: beginnings of an hour of a production service (Mooncake; hashes of blocks, tokens are made up), with
12,000 tokens on average. And a thing that should cost no more than it must: a line of a gigabyte.

Rows go to benchmarks/scaling.csv, the figure to benchmarks/scaling.svg. With --only, nothing but what is named is
measured; the other rows stay.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from marconi_core import datasets
from marconi_core.datasets import UnavailableError
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
MOONCAKE_SIZES = (
    1_000,
    3_000,
    12_014,
)  # the last is all but prompts too long for the paper's FLOPs
POLICIES = ("vllm_plus", "sglang_plus", "marconi")
CAPACITY = 4e10
TURNS, ACTIVE = 10, 200
FOLDER = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=SIZES, help="numbers of chats' requests"
    )
    parser.add_argument("--only", nargs="+", choices=DATA, default=DATA, help="what is measured")
    parser.add_argument("--data", type=Path, default=Path("results/data"), help="data folder")
    parser.add_argument("--data-mirror", type=Path, help="folder tried before the network")
    parser.add_argument("--output", type=Path, default=FOLDER, help="folder for CSV and figure")
    parser.add_argument("--step", nargs=2, metavar=("STEP", "FILE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        step, file = options.step
        print(json.dumps(STEPS[step](Path(file))))
        return
    target = options.output / "scaling.csv"
    tables = {str(name): own for name, own in pd.read_csv(FOLDER / "scaling.csv").groupby("data")}
    with tempfile.TemporaryDirectory() as folder:
        for name in options.only:
            if rows := DATA[name](name, Path(folder), options):
                tables[name] = pd.DataFrame(rows)
    table = pd.concat([tables[name] for name in DATA if name in tables])
    with atomic_path(target) as partial_file:
        table.to_csv(partial_file, index=False, float_format="%.4g")
    draw(table, options.output / "scaling.svg")
    print(table.to_string(index=False))


def measure_chats(name: str, folder: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    rows = []
    file = folder / "chats.jsonl"
    for size in options.sizes:
        write_chats(file, size)
        rows += measured(name, "compile", file)
        rows += measured(name, "simulate", file.with_suffix(".npz"))
    return rows


def measure_mooncake(name: str, folder: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    try:
        published = datasets.fetch(name, options.data, options.data_mirror)
    except UnavailableError as error:
        print(f"{name} left out: {error}", file=sys.stderr)
        return []
    rows = []
    file = folder / "mooncake.jsonl"
    for size in MOONCAKE_SIZES:
        write_mooncake(file, published, size)
        rows += measured(name, "compile_mooncake", file)
        rows += measured(name, "simulate", file.with_suffix(".npz"))
    return rows


def measure_long_line(name: str, folder: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    write_long_line(folder / "line.jsonl")
    return measured(name, "refuse", folder / "line.jsonl")


DATA = {
    "chats": measure_chats,
    "mooncake_conversation": measure_mooncake,
    "line of 1 GB": measure_long_line,
}


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


def compile_trace(read: Callable[[Path], Iterable[Request]], file: Path) -> dict[str, Any]:
    warm_up()
    seconds, trace = timed(lambda: Trace.build(read(file)))
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
    "compile": partial(compile_trace, read_requests),
    "compile_mooncake": partial(compile_trace, mooncake.read_requests),
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


def write_mooncake(path: Path, published: Path, requests: int) -> None:
    """Write the first requests of a published trace, but those that its reader leaves out."""
    longest = mooncake.MooncakeParams().max_tokens
    with published.open(encoding="utf-8") as lines, path.open("w", encoding="utf-8") as file:
        fitting = (line for line in lines if json.loads(line)["input_length"] <= longest)
        file.writelines(islice(fitting, requests))


def write_long_line(path: Path) -> None:
    with path.open("wb") as file:
        file.write(b'{"session_id": 0, "turn_id": 0, "ts": 0, "input_tokens": [1')
        block = b", 12345" * 149_797
        while file.tell() < 1 << 30:
            file.write(block)


def draw(table: pd.DataFrame, path: Path) -> None:
    """Draw seconds against requests (dotted: in proportion to them), memory against tokens."""
    from matplotlib.figure import Figure

    with paper_style():
        figure = Figure(figsize=(7.0, 3.4), layout="constrained")
        chats, service, memory = figure.subplots(1, 3)
        for axes, (name, (title, color, marker)) in zip(
            (chats, service), SERIES.items(), strict=True
        ):
            rows = table[table["data"] == name]
            axes.set_title(title)
            draw_seconds(axes, rows)
            for step, line in (("read and compile", "-"), ("load", "--")):
                own = rows[rows["step"] == step]
                memory.plot(
                    own["tokens"] / 1e6, own["peak_mib"], line, color=color, marker=marker, markersize=3,
                    label=f"{name.split('_')[0]}: {MEMORY[step]}",
                )  # fmt: skip
        service.sharex(chats)
        service.sharey(chats)
        chats.set(ylabel="CPU seconds")
        memory.set(xlabel="tokens (millions)", ylabel="peak memory (MiB)", ylim=(0, None))
        memory.legend(fontsize=6, loc="lower right")
        handles, labels = chats.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=5)
    save(figure, path)


def draw_seconds(axes: Any, rows: pd.DataFrame) -> None:
    for step, own in rows.groupby("step", sort=False):
        axes.plot(
            own["requests"], own["cpu_seconds"], label=NAMES[step], markersize=3, **LOOKS[step]
        )
    largest = rows[rows["step"] == "read and compile"].iloc[-1]
    ends = rows["requests"].agg(["min", "max"])
    proportional = largest["cpu_seconds"] * ends / largest["requests"]
    axes.plot(ends, proportional, ":", color="#999999", linewidth=1)
    axes.set(xscale="log", yscale="log", xlabel="requests")


SERIES = {
    "chats": ("random chats", SERIES_COLORS[0], "o"),
    "mooncake_conversation": ("Mooncake\n(production; made-up tokens)", SERIES_COLORS[1], "s"),
}
MEMORY = {"read and compile": "read, compile", "load": "load, simulate"}
NAMES = POLICY_NAMES | {"read and compile": "read JSONL, compile", "load": "load compiled, check"}
LOOKS: dict[Any, dict[str, str]] = {
    "read and compile": {"color": SERIES_COLORS[2], "marker": "s"},
    "load": {"color": "black", "marker": "D"},
} | {
    policy: {"color": POLICY_COLORS[policy], "linestyle": POLICY_LINES[policy], "marker": "o"}
    for policy in POLICIES
}


if __name__ == "__main__":
    main()
