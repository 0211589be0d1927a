"""What a server would do with a trace, without one: rows in virtual time, written down as served ones are."""

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from marconi_core.errors import PolicyError
from marconi_core.provenance import code_digest, versions
from marconi_core.replay.options import ReplayOptions
from marconi_core.replay.pace import planned
from marconi_core.replay.recording import VIRTUAL, record_replay
from marconi_core.replay.rows import ReplayRow
from marconi_core.replay.virtual import replay_virtually
from marconi_core.serving.errors import ServingError
from marconi_core.serving.simulated.flags import server_of, times_of_spec
from marconi_core.serving.spec import ServerSpec
from marconi_core.sim.server.batching import BatchingServer
from marconi_core.sim.server.lengths import check_lengths
from marconi_core.sim.server.sweep import CODE as SERVER_CODE
from marconi_core.traces.trace import Trace

CODE = (
    *SERVER_CODE,
    "files",
    "replay/forecast",
    "replay/options",
    "replay/pace",
    "replay/recording",
    "replay/rows",
    "replay/summary",
    "replay/virtual",
    "serving/errors",
    "serving/fields",
    "serving/recorded_times",
    "serving/recordings",
    "serving/simulated/flags",
    "serving/spec",
    "serving/weights",
)
"""The parts of the package whose code determines a forecast; what talks to servers is not among them."""


def check(trace: Trace, spec: ServerSpec, options: ReplayOptions) -> None:
    """Refuse what could not be replayed, before anything is.

    Raises:
        ServingError: the server is not a simulated one, or is to fail on purpose.
        PolicyError: the server would refuse a request; names it.
    """
    if spec.server != "simulated":
        raise ServingError("--virtual is for simulated servers: add --set server=simulated")
    if any(flag.startswith("--simulated-fault") for flag in spec.extra_flags):
        raise ServingError(
            "--simulated-fault: in virtual time there is no server that could fail; leave out the "
            "flag, or --virtual"
        )
    count = planned(trace, options)
    lengths = zip(trace.n_in[:count].tolist(), trace.n_out[:count].tolist(), strict=True)
    for i, (prompt, output) in enumerate(lengths):
        try:
            check_lengths(prompt, output, spec.context_length)
        except PolicyError as refused:
            raise PolicyError(f"request {i} of the trace: {refused}") from None


def made_by(spec: ServerSpec) -> dict[str, Any]:
    """Return what a forecast depends on besides trace, server and load, as JSON: code and recorded times.

    Raises:
        NoTimesError: no times were recorded of such a server.
        ServingError: a wrong flag.
    """
    return {"code": code_digest(*CODE), "times": asdict(times_of_spec(spec))}


def forecast(
    trace: Trace, spec: ServerSpec, options: ReplayOptions, output: Path, name: str | None = None
) -> list[ReplayRow]:
    """Replay a trace in virtual time and write it down; return the rows.

    Args:
        output: a CSV file; a JSON file goes beside.
        name: of the trace; None for that of the file.

    Raises:
        ModelError: the layers of the model are not known.
        PolicyError: the pools are too small, the server would refuse a request, or this release of
            SGLang is not simulated.
        ServingError: see `check`.
    """
    check(trace, spec, options)
    server = server_of(spec)
    return record_replay(
        trace,
        options,
        output,
        _origin(spec, server.server),
        partial(replay_virtually, trace, server, options),
        name=name,
    )


def _origin(spec: ServerSpec, server: BatchingServer) -> dict[str, Any]:
    """Return where the rows come from, as JSON; no date, as they are the same on any day."""
    sizes = server.simulator.sizes
    return {
        "label": f"{spec.label}, in virtual time",
        "clock": VIRTUAL,
        "weights": "none",
        "devices": [],
        "versions": versions(),
        **made_by(spec),
        "plugin": None,
        "spec": spec.model_dump(),
        "pools": {
            "states": sizes.states,
            "kv_tokens": sizes.kv_tokens,
            "running_requests": server.most_running,
        },
    }
