"""Replays as the server simulator predicts them, beside what servers did.

    python -m marconi_core.report.predicted FOLDER --traces TRACE.npz ...

writes ``FOLDER/predicted.csv`` for all replays in the folder. Cached tokens are predicted for one request
at a time, in the trace's order; the time to first token is that of a server that has nothing else to
do, so what it lacks beside a measurement is waiting and sharing.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from marconi_core.errors import DataError, MarconiError
from marconi_core.files import atomic_path
from marconi_core.models.latency import PrefillLatency
from marconi_core.serving.recordings import (
    Recording,
    latest_ttft,
    load,
    prefill_fit,
    prefill_medians,
)
from marconi_core.serving.simulated.flags import cache_of
from marconi_core.serving.spec import STRATEGIES, VARIANTS, ServerSpec
from marconi_core.sim.server import PoolSizes
from marconi_core.traces.trace import Trace

PREDICTED = "predicted.csv"
KEYS = ["trace", "variant", "states", "kv_tokens", "requests"]


class Prediction(NamedTuple):
    """One server on the first requests of one trace."""

    trace: str
    variant: str
    states: int
    kv_tokens: int
    requests: int
    token_hit_rate: float
    ttft_p50_ms: float
    ttft_p95_ms: float


def predict(replays: Iterable[Recording], traces: Mapping[str, Trace]) -> Iterator[Prediction]:
    """Yield a prediction for each kind of server and trace among the replays.

    Args:
        traces: by name; replays of others are left out.

    Raises:
        DataError: a trace is not the one that was replayed.
    """
    done = set()
    for replay in replays:
        requests = replay.requests_planned
        key = (replay.trace, replay.variant, replay.states, replay.kv_tokens, requests)
        trace = traces.get(replay.trace)
        if key in done or trace is None:
            continue
        done.add(key)
        if trace.head(requests).digest() != replay.description["trace"]:
            raise DataError(f"{replay.path}: another trace was replayed than {replay.trace}.npz")
        spec = ServerSpec.of(replay.description["spec"])
        cached = cached_tokens(trace, spec, PoolSizes(replay.kv_tokens, replay.states), requests)
        prompts = trace.n_in[:requests]
        rate = int(cached.sum()) / int(prompts.sum())
        if spec.server == "simulated":  # its times are a model's too, and maybe faster than real
            yield Prediction(*key, rate, float("nan"), float("nan"))
            continue
        times = _fit_for(spec).ms(prompts, cached)
        yield Prediction(*key, rate, *np.percentile(times, (50, 95)))


def cached_tokens(
    trace: Trace, spec: ServerSpec, pools: PoolSizes, requests: int
) -> NDArray[np.int64]:
    """Return int64[requests]: prompt tokens that a server has cached for each request of a trace."""
    cache = cache_of(spec, pools)
    hits = (cache.hit(trace.input_tokens(i), trace.output_tokens(i)) for i in range(requests))
    return np.fromiter(hits, np.int64, requests)


def _fit_for(spec: ServerSpec) -> PrefillLatency:
    """Return the fit that was measured on the same strategy."""
    flags = VARIANTS[spec.variant].flags
    strategy = next((name for name in STRATEGIES if name in flags), "no_cache")
    return prefill_fit(prefill_medians(latest_ttft(strategy)))


def read_predictions(folders: Iterable[Path]) -> pd.DataFrame:
    """Return all predictions in folders; empty, with the right columns, if there are none.

    Args:
        folders: oldest first; the last prediction of several for the same replay counts.
    """
    files = [path for folder in folders for path in sorted(folder.rglob(PREDICTED))]
    frames = [pd.read_csv(path) for path in files]
    empty = pd.DataFrame(columns=list(Prediction._fields))
    return (
        pd.concat(frames, ignore_index=True).drop_duplicates(KEYS, keep="last") if frames else empty
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Predict the replays of a folder; return 0, or 2 after one message on standard error."""
    parser = argparse.ArgumentParser(prog="python -m marconi_core.report.predicted")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="of replays, also below it")
    parser.add_argument("--traces", type=Path, nargs="+", required=True, help="compiled (.npz)")
    options = parser.parse_args(arguments)
    try:
        files = (path for path in sorted(options.folder.rglob("*.csv")) if path.name != PREDICTED)
        traces = {path.stem: Trace.load(path) for path in options.traces}
        rows = pd.DataFrame(predict(load(files), traces), columns=list(Prediction._fields))
        with atomic_path(options.folder / PREDICTED) as partial:
            rows.round(6).to_csv(partial, index=False)
    except MarconiError as error:
        print(f"marconi: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
