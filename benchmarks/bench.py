"""Times the pipeline and the simulator, beside the CPU seconds of the paper's own simulator.

    make bench [DATA_MIRROR=FOLDER]

Timings are CPU seconds of one core, the best of several repeats, compiled code warm. Results go to
standard output as Markdown tables; benchmarks/README.md keeps the recorded ones.
"""

import argparse
import platform
import resource
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from marconi_core import datasets
from marconi_core.errors import DataError
from marconi_core.models import MODELS
from marconi_core.policies import POLICIES
from marconi_core.provenance import versions
from marconi_core.sim.simulation import Simulator
from marconi_core.traces.arrivals import PoissonArrivals, TypingArrivals
from marconi_core.traces.jsonl import read_trace, write_trace
from marconi_core.traces.sources import SOURCES, load_workload
from marconi_core.traces.tokenizers import build_llama2
from marconi_core.traces.trace import Request, Trace, Workload

MODEL = MODELS["paper_7b"]
COMPARED = ("vllm_plus", "sglang_plus", "marconi")
SHAREGPT_RATES = (0.25, 0.5, 1, 2, 5, 10)
SHAREGPT_CAPACITIES = (1e9, 2e9, 3e9, 4e9, 5e9, 1e10)
SWEBENCH_RATES = (0.25, 0.5, 1, 2, 5, 10)
SWEBENCH_RESPONSE_TIMES = (5, 7.5, 10)
SWEBENCH_CAPACITIES = (4e10, 6e10, 8e10, 1e11)

# The paper's own simulator on two cores, CPU seconds: SWEBench at sps=1, art=7.5 and 4e10 bytes
# (the tuner in its process pool included), and the sum of ShareGPT's 36 configurations.
REFERENCE_SWEBENCH = {"vllm_plus": 297.0, "sglang_plus": 4.65, "oracle": 44.5, "marconi": 453.0}
REFERENCE_SHAREGPT = {"vllm_plus": 51.5, "sglang_plus": 15.8, "marconi": 593.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("results/data"), help="data folder")
    parser.add_argument("--data-mirror", type=Path, help="folder tried before the network")
    options = parser.parse_args()
    print(f"{platform.machine()}, {', '.join(f'{k} {v}' for k, v in versions().items())}\n")

    tokenizer = options.data / "llama2-tokenizer.json"
    vocabulary = datasets.fetch("llama2_vocab", options.data, options.data_mirror)
    build_llama2(vocabulary, tokenizer)
    workloads = {}
    rows = []
    for name in ("sharegpt", "swebench"):
        try:
            for file in SOURCES[name].files_needed:
                datasets.fetch(file, options.data, options.data_mirror)
        except DataError as error:
            print(f"{name} left out: {error}\n")
            continue
        workloads[name], row = build(name, options.data, tokenizer)
        rows.append(row)
    table("Traces: text to tokens, JSONL, and back (seconds)",
          ("trace", "tokenize and compile", "schedule", "write JSONL", "read JSONL", "load .npz"),
          rows)  # fmt: skip
    if "sharegpt" in workloads:
        sharegpt_grid(workloads["sharegpt"])
    if "swebench" in workloads:
        swebench_configuration(workloads["swebench"])
        swebench_grid(workloads["swebench"])
    growing_cache()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"Peak memory of all the above: {peak:.0f} MiB")


def build(name: str, data: Path, tokenizer: Path) -> tuple[Workload, tuple[Any, ...]]:
    load_workload(name, None, data, tokenizer)  # compiles the code
    building, workload = cpu_seconds(lambda: load_workload(name, None, data, tokenizer))
    arrivals = (
        TypingArrivals(sessions_per_second=1)
        if SOURCES[name].think_time == "typing"
        else PoissonArrivals(sessions_per_second=1, mean_response_time=7.5)
    )
    scheduling, trace = cpu_seconds(lambda: workload.schedule(arrivals.timestamps(workload)))
    jsonl, compiled = data / f"bench-{name}.jsonl", data / f"bench-{name}.npz"
    writing, _ = cpu_seconds(lambda: write_trace(trace, jsonl))
    reading, _ = cpu_seconds(lambda: read_trace(jsonl))
    trace.save(compiled)
    loading, _ = cpu_seconds(lambda: Trace.load(compiled))
    jsonl.unlink()
    compiled.unlink()
    label = f"{name}_{arrivals.label}"
    return workload, (label, building, scheduling, writing, reading, loading)


def sharegpt_grid(workload: Workload) -> None:
    traces = [
        workload.schedule(TypingArrivals(sessions_per_second=rate).timestamps(workload))
        for rate in SHAREGPT_RATES
    ]
    grid("ShareGPT, 6 rates x 6 capacities", traces, SHAREGPT_CAPACITIES, REFERENCE_SHAREGPT)


def swebench_grid(workload: Workload) -> None:
    traces = [
        workload.schedule(
            PoissonArrivals(sessions_per_second=rate, mean_response_time=mean).timestamps(workload)
        )
        for rate in SWEBENCH_RATES
        for mean in SWEBENCH_RESPONSE_TIMES
    ]
    grid("SWEBench stand-in, 18 arrival patterns x 4 capacities", traces, SWEBENCH_CAPACITIES, {})


def grid(
    title: str, traces: list[Trace], capacities: Sequence[float], reference: dict[str, float]
) -> None:
    rows = []
    for policy in COMPARED:
        Simulator(traces[0], MODEL).run(policy, min(capacities))  # compiles the code
        seconds = sum(
            cpu_seconds(partial(simulator.run, policy, capacity))[0]
            for simulator in warm(traces)
            for capacity in capacities
        )
        rows.append((policy, seconds, *against(reference.get(policy), seconds)))
    total = sum(row[1] for row in rows)
    rows.append(("together", total, *against(sum(reference.values()), total)))
    seconds = sum(
        cpu_seconds(partial(simulator.run, "oracle", capacity, alpha=alpha))[0]
        for simulator in warm(traces)
        for capacity in capacities
        for alpha in simulator.alphas
    )
    rows.append(("oracle, 21 alphas", seconds, "-", "-"))
    table(title, ("policy", "CPU s", "reference CPU s", "times faster"), rows)


def warm(traces: list[Trace]) -> Iterator[Simulator]:
    """Yield a fresh simulator for each trace (none shares replays between policies)."""
    for trace in traces:
        yield Simulator(trace, MODEL)


def swebench_configuration(workload: Workload) -> None:
    arrivals = PoissonArrivals(sessions_per_second=1, mean_response_time=7.5)
    trace = workload.schedule(arrivals.timestamps(workload))

    def replay(policy: str, alpha: float | None) -> None:
        Simulator(trace, MODEL).run(policy, 4e10, alpha=alpha)

    rows: list[tuple[Any, ...]] = []
    total = 0.0
    for policy in POLICIES.values():
        alpha = 0.5 if policy.alpha == "static" else None
        replay(policy.name, alpha)  # compiles the code
        seconds, _ = cpu_seconds(partial(replay, policy.name, alpha), repeats=5)
        total += seconds if policy.name in COMPARED else 0
        row = against(REFERENCE_SWEBENCH.get(policy.name), seconds)
        rows.append((policy.name, 1000 * seconds, *row))
    reference = sum(REFERENCE_SWEBENCH[policy] for policy in COMPARED)
    rows.append((", ".join(COMPARED), 1000 * total, reference, f"{reference / total:,.0f}"))
    table("SWEBench stand-in, sps=1 art=7.5, 4e10 bytes (marconi: with its tuner run)",
          ("policy", "CPU ms", "reference CPU s", "times faster"), rows)  # fmt: skip


def growing_cache() -> None:
    """Requests per second while the cache holds about 1k, 10k, 100k nodes and evicts for each."""
    rows = []
    for nodes in (1_000, 10_000, 100_000):
        requests = 2 * nodes + 20_000
        trace = Trace.build(
            Request(i, 0, float(i), [i % 30_000, i, *([5] * (i * 7919 % 50))], [6])
            for i in range(requests)
        )
        simulator = Simulator(trace, MODEL)
        capacity = float(nodes * (MODEL.state_bytes + 29 * MODEL.kv_bytes))
        speeds = []
        for policy, alpha in (("vllm_plus", None), ("sglang_plus", None), ("oracle", 0.5)):
            seconds, _ = cpu_seconds(partial(simulator.run, policy, capacity, alpha=alpha))
            speeds.append(f"{requests / seconds:,.0f}")
        rows.append((f"{nodes:,}", f"{requests:,}", *speeds))
    table("Requests per second as cached nodes grow (synthetic, disjoint prompts, alpha 0.5)",
          ("nodes", "requests", "vllm_plus", "sglang_plus", "oracle"), rows)  # fmt: skip


def cpu_seconds(function: Callable[[], Any], repeats: int = 1) -> tuple[float, Any]:
    """Return the least CPU time of some calls, and the last call's result."""
    best = float("inf")
    for _ in range(repeats):
        start = time.process_time()
        result = function()
        best = min(best, time.process_time() - start)
    return best, result


def against(reference: float | None, seconds: float) -> tuple[Any, str]:
    return (reference, f"{reference / seconds:,.0f}") if reference else ("-", "-")


def table(title: str, columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    print(f"## {title}\n")
    print("| " + " | ".join(columns) + " |")
    print("|" + " --- |" * len(list(columns)))
    for row in rows:
        cells = [f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in row]
        print("| " + " | ".join(cells) + " |")
    print(flush=True)


if __name__ == "__main__":
    main()
