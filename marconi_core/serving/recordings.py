"""Live measurements as files: those of this machine, and those that ship with the repository.

Both have the same form, because the same commands wrote them: raw rows in a CSV file, and beside it a
JSON file that says where they come from. A recorded occasion is a folder ``DATE-DEVICE-WHAT``.
"""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from pandas.errors import EmptyDataError

from marconi_core.assets import resource
from marconi_core.errors import DataError, ModelError
from marconi_core.models import load_hybrid_model
from marconi_core.models.layers import Layer
from marconi_core.serving.spec import VARIANTS

SIMULATED = "simulated server"
REFERENCE_MODEL = "nemotron_h_8b"

USUAL = {
    "chunked_prefill_size": 8192, "ssm_dtype": "float32", "attention_backend": "flashinfer",
    "decode_graph_batch": 16, "prefill_graphs": False, "extra_flags": [],
}  # fmt: skip
"""Fields of `ServerSpec` that make a server faster or slower, beside its pools; what it has if nothing is said."""

HERE = "here"
"""The occasion of measurements that do not ship with the repository: those of this machine."""

REPEAT = re.compile(r"-\d+$")


class Kind(NamedTuple):
    """What a replay is of; see `Recording`. Repeats are of the same kind."""

    occasion: str
    server: str
    load: str
    trace: str
    variant: str
    states: int
    kv_tokens: int
    requests: int


PLACE = [field for field in Kind._fields if field != "variant"]
"""Replays in the same place can be compared."""


class Recording(NamedTuple):
    """One CSV file of raw rows, and what its JSON file says of it."""

    path: Path
    description: dict[str, Any]

    @property
    def requests_planned(self) -> int:
        """Requests of the plan; where none is given, those that were recorded."""
        return int(self.description.get("requests_planned", self._said("requests")))

    @property
    def complete(self) -> bool:
        """Whether all requests that were planned have rows."""
        return 0 < len(self.rows()) == self._said("requests") == self.requests_planned

    @property
    def occasion(self) -> str:
        """``DATE-DEVICE`` of a recording that ships with the repository; `HERE` for this machine's.

        Replays of one are of one machine. Hosts differ where GPUs are the same: short prompts wait for
        kernels to be launched.
        """
        recorded = resource("recorded").resolve()
        path = self.path.resolve()
        if not path.is_relative_to(recorded):
            return HERE
        return path.relative_to(recorded).parts[0].rpartition("-")[0]

    @property
    def server(self) -> str:
        """What a table must say of the server: the simulated one; or GPU, weights, and what is not as usual."""
        spec = self.description.get("spec", {})
        model = [] if spec.get("model", REFERENCE_MODEL) == REFERENCE_MODEL else [self.model]
        several = f"{n} x " if (n := self.tensor_parallel) > 1 else ""
        if spec.get("server") == "simulated":
            served = [f"{several}{SIMULATED}"]
        else:
            weights = self.description.get("weights", "unknown")
            served = [f"{several}{self.gpu}", f"{weights} weights"]
        return ", ".join([*served, *model, *self.settings])

    @property
    def settings(self) -> list[str]:
        """What changes a server's times and is not as usual, as ``FIELD=VALUE``."""
        spec = self.description.get("spec", {})
        values = {name: spec[name] for name in USUAL if spec.get(name)}
        values["extra_flags"] = self._flags(plugin=False)
        return [
            f"{name}={' '.join(map(str, value)) if isinstance(value, list) else value}"
            for name, value in values.items()
            if value != USUAL[name]
        ]

    @property
    def plain(self) -> bool:
        """Whether the server has usual settings, and the plug-in no further options."""
        return not self.settings and not self._flags(plugin=True)

    def _flags(self, *, plugin: bool) -> list[str]:
        """Return the words of `extra_flags` that are options of the plug-in, with their values, or the others."""
        found, of_plugin = [], False
        for word in self.description.get("spec", {}).get("extra_flags", ()):
            if word.startswith("--"):
                of_plugin = word.startswith("--marconi-")
            if of_plugin == plugin:
                found.append(word)
        return found

    @property
    def host_ms(self) -> float:
        """Median of what was timed on the host meanwhile (see `hostpace`); NaN where nothing was."""
        return float(self.description.get("host_pace", {}).get("median_ms") or "nan")

    @property
    def gpu(self) -> str:
        """Name of the GPU, the first of several."""
        devices = self.description.get("devices") or [{"name": "unknown device"}]
        return str(devices[0]["name"])

    @property
    def model(self) -> str:
        """Name under which the model was served."""
        return str(self._said("spec", "served_name"))

    @property
    def layers(self) -> tuple[Layer, ...] | None:
        """Layers of the model; None where its config is not at hand."""
        try:
            return load_hybrid_model(str(self._said("spec", "model"))).layers
        except ModelError:
            return None

    @property
    def tensor_parallel(self) -> int:
        """GPUs that the model was spread over."""
        return int(self.description.get("spec", {}).get("tensor_parallel", 1))

    @property
    def date(self) -> str:
        """The day of the measurement; empty for a replay in virtual time, which has none."""
        return str(self.description.get("date", ""))[:10]

    @property
    def trace(self) -> str:
        """Name of the replayed trace; if it was not recorded, that of the file, less the number of a repeat."""
        return str(self.description.get("trace_name") or REPEAT.sub("", self.path.stem))

    @property
    def states(self) -> int:
        """Size of the server's pool of states."""
        return int(self._said("pools", "states"))

    @property
    def kv_tokens(self) -> int:
        """Size of the server's KV pool in tokens."""
        return int(self._said("pools", "kv_tokens"))

    @property
    def running_requests(self) -> int | None:
        """Requests that the server let run at a time, if it has told."""
        running: int | None = self._said("pools").get("running_requests")
        return running

    @property
    def plugin_settings(self) -> dict[str, Any] | None:
        """Settings of the plug-in, as the server has told them; None without the plug-in."""
        settings: dict[str, Any] | None = (self.description.get("marconi") or {}).get("settings")
        return settings

    @property
    def variant(self) -> str:
        """How the server kept prefixes: ``NAME`` or ``NAME@ALPHA``, and more options of the plug-in behind it."""
        name, alpha = self._said("spec", "variant"), self._said("spec").get("alpha")
        return " ".join([name if alpha is None else f"{name}@{alpha:g}", *self._flags(plugin=True)])

    @property
    def load(self) -> str:
        """How a trace was replayed, in words. Under different loads, times cannot be compared."""
        in_flight, speed = self._said("options", "concurrency"), self._said("options", "speed")
        running = self._said("spec").get("max_running_requests")
        return ", ".join(
            [
                f"{in_flight or 'any number'} in flight",
                *([f"at most {running} running"] if running else []),
                *([f"arrivals {speed:g} times as fast"] if speed else []),
                f"{self._said('options', 'loop')} loop",
                f"outputs {self._said('options', 'outputs')}",
                f"SGLang {self._said('spec', 'sglang')}",
            ]
        )

    @property
    def kind(self) -> Kind:
        """What was replayed, where, and how."""
        return Kind(
            self.occasion, self.server, self.load, self.trace, self.variant, self.states,
            self.kv_tokens, self.requests_planned,
        )  # fmt: skip

    def rows(self) -> pd.DataFrame:
        """Return the raw rows; without columns where the run ended before the first.

        Raises:
            DataError: the file is damaged.
        """
        try:
            return pd.read_csv(self.path)
        except EmptyDataError:
            return pd.DataFrame()
        except (OSError, ValueError) as error:
            raise DataError(f"{self.path}: no CSV ({error}); copy it again") from None

    def _said(self, *keys: str) -> Any:
        """Return a value of the JSON file, which must have it."""
        value: Any = self.description
        for key in keys:
            if not isinstance(value, dict) or key not in value:
                raise DataError(
                    f"{self.path.with_suffix('.json')}: lacks the key {'.'.join(keys)}; copy it again"
                )
            value = value[key]
        return value


def is_simulated(server: str) -> bool:
    """Return whether a `Recording.server` is a simulated one."""
    return SIMULATED in server


def recorded_as(occasion: str) -> str:
    """Return which recording it is, to be put behind a server's name; nothing for this machine's."""
    return "" if occasion == HERE else f" ({occasion})"


def by_order(variant: str) -> tuple[int, str]:
    """Return a key that sorts variants as `VARIANTS` has them, with fixed alphas behind."""
    return list(VARIANTS).index(name_of(variant)), variant


def name_of(variant: str) -> str:
    """Return the key of `VARIANTS` with which a `Recording.variant` begins."""
    return re.split("[@ ]", variant, maxsplit=1)[0]


def recorded_files(what: str) -> list[Path]:
    """Return the CSV files that ship with the repository, of ``ttft``, ``parity`` or ``replay``."""
    return sorted(
        path for path in resource("recorded").glob(f"*-{what}/**/*.csv") if path.stem != "predicted"
    )


def read_recordings(paths: Iterable[Path]) -> Iterator[Recording]:
    """Yield the recordings whose rows are in these CSV files.

    Raises:
        DataError: a CSV file has no JSON file beside it, or a damaged one.
    """
    for path in paths:
        yield Recording(path, read_description(path.with_suffix(".json")))


def read_description(path: Path) -> dict[str, Any]:
    """Return what the JSON file of a measurement says.

    Raises:
        DataError: it cannot be read, or is no JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(
            f"{path}: says not where a measurement comes from ({reason}); copy it again, or delete it "
            "and its rows"
        ) from None
    if not isinstance(content, dict):
        raise DataError(f"{path}: not the JSON file of a measurement; move it elsewhere")
    return content
