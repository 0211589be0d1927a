"""Replays as the server simulator predicts them, beside what servers did.

    python -m marconi_core.report.predicted FOLDER ... --traces TRACE.npz ...

writes ``FOLDER/predicted.csv`` (or the file that ``--output`` names) for all replays in the folders: the
same requests under the same load, in virtual time (`replay.virtual`). Who shares a batch and who waits is
simulated; how long a batch takes comes from recorded times to first token. What a prediction lacks beside a
measurement is the client, HTTP, and what a GPU does not do equally fast each time.
"""

import argparse
import contextlib
import logging
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import pandas as pd

from marconi_core.errors import DataError, MarconiError, ModelError, PolicyError
from marconi_core.files import atomic_path
from marconi_core.replay.options import ReplayOptions
from marconi_core.replay.rows import ReplayRow
from marconi_core.replay.summary import summarize
from marconi_core.replay.virtual import replay_virtually
from marconi_core.serving.recorded_times import NoTimesError
from marconi_core.serving.recordings import Kind, Recording, read_recordings
from marconi_core.serving.simulated.flags import server_of
from marconi_core.serving.spec import ServerSpec
from marconi_core.sim.server import PoolSizes
from marconi_core.sim.server.timing import TimedServer
from marconi_core.traces.trace import Trace

logger = logging.getLogger(__name__)

PREDICTED = "predicted.csv"
KEYS = list(Kind._fields)


class Prediction(NamedTuple):
    """One server on the first requests of one trace.

    Attributes:
        occasion, server, load: see `Recording`.
        hit_as_predicted: part of the requests whose cached tokens are as predicted, mean over repeats.
        ttft_p50_ms, ttft_p95_ms: NaN where no times were recorded of such a GPU with such settings.
    """

    occasion: str
    server: str
    load: str
    trace: str
    variant: str
    states: int
    kv_tokens: int
    requests: int
    token_hit_rate: float
    ttft_p50_ms: float
    ttft_p95_ms: float
    hit_as_predicted: float


def predict(replays: Iterable[Recording], traces: Mapping[str, Trace]) -> Iterator[Prediction]:
    """Yield a prediction for each kind of server, trace and load among the replays.

    Those that the simulator cannot make are left out, and named on the log: what was measured is
    worth showing without them.

    Args:
        traces: by name; replays of others are left out.

    Raises:
        DataError: a trace is not the one that was replayed.
    """
    kinds: dict[Kind, list[Recording]] = {}
    for replay in replays:
        if (trace := traces.get(replay.trace)) is None:
            continue
        if trace.head(replay.requests_planned).digest() != replay.description["trace"]:
            raise DataError(f"{replay.path}: another trace was replayed than {replay.trace}.npz")
        kinds.setdefault(replay.kind, []).append(replay)
    for kind, repeats in kinds.items():
        replay = repeats[0]
        options = ReplayOptions.of({**replay.description["options"], "requests": kind.requests})
        try:
            server, times_are_known = _server(replay)
            rows = replay_virtually(traces[kind.trace], server, options)
        except (ModelError, PolicyError, NoTimesError) as error:
            logger.warning("%s: not predicted: %s", replay.path, error)
            continue
        found = summarize(rows)
        times = found.ttft_p50_ms, found.ttft_p95_ms
        if not times_are_known:
            times = float("nan"), float("nan")
        equal = fmean(_hit_as_predicted(rows, repeat) for repeat in repeats)
        yield Prediction(*kind, found.token_hit_rate, *times, equal)


def _hit_as_predicted(predicted: Sequence[ReplayRow], replay: Recording) -> float:
    """Return the part of a replay's requests whose cached tokens are as predicted."""
    cached = {row.request: row.cached_tokens for row in predicted}
    served = replay.rows()
    return float((served["request"].map(cached) == served["cached_tokens"]).mean())


def _server(replay: Recording) -> tuple[TimedServer, bool]:
    """Return the replayed server, and whether its times are known: of the same GPU, with usual settings.

    They are the same machine's where it has any. A server whose times are not known has a reference's.
    """
    spec = ServerSpec.of(replay.description["spec"])
    pools = PoolSizes(replay.kv_tokens, replay.states)
    predicted = partial(server_of, spec, pools, replay.running_requests, replay.plugin_settings)
    for where in (replay.occasion, replay.gpu):
        with contextlib.suppress(NoTimesError):
            return predicted(where=where), not replay.settings
    return predicted(), False


def read_predictions(paths: Iterable[Path]) -> pd.DataFrame:
    """Return all predictions in files and folders; empty, with the right columns, if there are none.

    Args:
        paths: oldest first; the last prediction of several for the same replay counts.
    """
    files: list[Path] = []
    for path in paths:
        files += sorted(path.rglob(PREDICTED)) if path.is_dir() else [path]
    frames = [pd.read_csv(path) for path in files]
    empty = pd.DataFrame(columns=list(Prediction._fields))
    return (
        pd.concat(frames, ignore_index=True).drop_duplicates(KEYS, keep="last") if frames else empty
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Predict the replays of folders; return 0, or 2 after one message on standard error."""
    parser = argparse.ArgumentParser(prog="python -m marconi_core.report.predicted")
    parser.add_argument(
        "folders", type=Path, nargs="+", metavar="FOLDER", help="of replays, also below it"
    )
    parser.add_argument("--traces", type=Path, nargs="+", required=True, help="compiled (.npz)")
    parser.add_argument("--output", type=Path, help=f"{PREDICTED} in the first folder by default")
    options = parser.parse_args(arguments)
    folders, output = options.folders, options.output or options.folders[0] / PREDICTED
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    try:
        files = [path for folder in folders for path in sorted(folder.rglob("*.csv"))]
        rows_of = (path for path in files if path.name != PREDICTED and path != output)
        replays = list(read_recordings(rows_of))
        traces = {path.stem: Trace.load(path) for path in options.traces}
        if not any(replay.trace in traces for replay in replays):
            replayed = ", ".join(sorted({replay.trace for replay in replays})) or "no replay at all"
            raise DataError(
                f"{', '.join(map(str, folders))}: has no replay of {', '.join(traces)}, but of "
                f"{replayed}; name the traces that were replayed"
            )
        rows = pd.DataFrame(predict(replays, traces), columns=list(Prediction._fields))
        with atomic_path(output) as unfinished:
            rows.round(6).to_csv(unfinished, index=False)
    except MarconiError as error:
        print(f"marconi: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
