"""Compiles the first requests of real conversations for the servers on a CPU.

    python -m tests.sglang_cpu.build_conversations FOLDER

writes FAMILY.npz, a compiled trace in the order of arrival, and FAMILY.txt: what the trace is, or why
there is none. It runs in the environment that can read data sets; the tests run in SGLang's. A trace
that is there is kept.
"""

import sys
import tempfile
from pathlib import Path

from marconi_core.datasets import UnavailableError
from marconi_core.traces.arrivals import Arrivals, PoissonArrivals, TypingArrivals
from marconi_core.traces.sources import SOURCES, load_workload
from marconi_core.traces.tokenizers import build_llama2
from marconi_core.traces.trace import Request, Trace
from tests.real_data import fetch

REQUESTS = 300
TYPING = TypingArrivals(sessions_per_second=1)
ACTING = PoissonArrivals(sessions_per_second=1, mean_response_time=5)
FAMILIES: dict[str, tuple[Arrivals, tuple[str, ...]]] = {
    "sharegpt": (TYPING, ("sharegpt",)),
    "agents": (ACTING, ("swebench", "synthetic")),
}
"""How the requests of each family arrive, and where they come from, the best source first."""


def build(family: str, folder: Path) -> None:
    """Write the family's files."""
    arrivals, sources = FAMILIES[family]
    target, note = folder / f"{family}.npz", folder / f"{family}.txt"
    reasons = []
    for source in sources:
        try:
            trace = first_requests(source, arrivals)
        except UnavailableError as error:
            reasons.append(str(error))
            continue
        trace.save(target)
        note.write_text(f"{SOURCES[source].summary}; first {len(trace)} requests\n")
        return
    note.write_text("\n".join(reasons) + "\n")


def first_requests(source: str, arrivals: Arrivals) -> Trace:
    """Return the first requests of a source's default trace.

    Raises:
        UnavailableError: a file it needs cannot be had.
    """
    with tempfile.TemporaryDirectory() as temporary:
        data = Path(temporary)
        tokenizer = data / "tokenizer.json"
        for name in SOURCES[source].files_needed:
            fetch(name, data)
        if SOURCES[source].needs_tokenizer:
            build_llama2(fetch("llama2_vocab", data), tokenizer)
        workload = load_workload(source, None, data, tokenizer)
    trace = workload.schedule(arrivals.timestamps(workload))
    return Trace.build(
        Request(
            trace.session_ids[trace.session[i]],
            int(trace.turn[i]),
            float(trace.ts[i]),
            trace.input_tokens(i),
            trace.output_tokens(i),
        )
        for i in range(REQUESTS)
    )


if __name__ == "__main__":
    into = Path(sys.argv[1])
    into.mkdir(parents=True, exist_ok=True)
    for each in FAMILIES:
        if not (into / f"{each}.npz").is_file():
            build(each, into)
        print(f"{each}: {(into / f'{each}.txt').read_text().strip()}")
