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

from marconi_core.assets import resource
from marconi_core.errors import DataError
from marconi_core.models.latency import PrefillLatency
from marconi_core.serving.spec import VARIANTS

SIMULATED = "simulated server"
REPEAT = re.compile(r"-\d+$")


class Recording(NamedTuple):
    """One CSV file of raw rows, and what its JSON file says of it."""

    path: Path
    description: dict[str, Any]

    @property
    def complete(self) -> bool:
        """Whether all requests that were planned have rows; where no plan is given, yes."""
        requests = self.description.get("requests")
        return bool(requests == self.description.get("requests_planned", requests))

    @property
    def server(self) -> str:
        """What a table must say of the server: the simulated one, or GPU and weights."""
        spec = self.description.get("spec", {})
        if spec.get("server") == "simulated":
            return SIMULATED
        devices = self.description.get("devices") or [{"name": "unknown device"}]
        weights = self.description.get("weights", "unknown")
        return f"{devices[0]['name']}, {weights} weights"

    @property
    def model(self) -> str:
        """Name under which the model was served."""
        return str(self.description["spec"]["served_name"])

    @property
    def date(self) -> str:
        """The day of the measurement."""
        return str(self.description.get("date", ""))[:10]

    @property
    def trace(self) -> str:
        """Name of the replayed trace; that of the file, less the number of a repeat."""
        return REPEAT.sub("", self.path.stem)

    @property
    def states(self) -> int:
        """Size of the server's pool of states."""
        return int(self.description["pools"]["states"])

    @property
    def kv_tokens(self) -> int:
        """Size of the server's KV pool in tokens."""
        return int(self.description["pools"]["kv_tokens"])

    @property
    def variant(self) -> str:
        """How the server kept prefixes: ``VARIANT`` or ``VARIANT@ALPHA``."""
        spec = self.description["spec"]
        alpha = spec.get("alpha")
        return str(spec["variant"]) if alpha is None else f"{spec['variant']}@{alpha:g}"

    def rows(self) -> pd.DataFrame:
        """Return the raw rows."""
        return pd.read_csv(self.path)


def prefill_medians(recording: Recording) -> pd.DataFrame:
    """Return times to first token of a ``ttft`` recording, one row per kind of prompt, warm-up left out."""
    rows = recording.rows()
    groups = rows[rows["round"] >= 0].groupby(["prompt_tokens", "prefix_tokens", "cached_tokens"])
    times = groups["ttft_ms"].agg(requests="size", median_ms="median", low_ms="min", high_ms="max")
    return times.reset_index()


def prefill_fit(cells: pd.DataFrame) -> PrefillLatency:
    """Return the fit to rows of `prefill_medians`."""
    return PrefillLatency.fit(cells["prompt_tokens"], cells["cached_tokens"], cells["median_ms"])


def latest_ttft(variant: str) -> Recording:
    """Return the latest times to first token of a variant that ship with the repository."""
    *_, latest = load(path for path in recorded_files("ttft") if path.stem == variant)
    return latest


def by_order(variant: str) -> tuple[int, str]:
    """Return a key that sorts variants as `VARIANTS` has them, with fixed alphas behind."""
    return list(VARIANTS).index(variant.partition("@")[0]), variant


def recorded_files(what: str) -> list[Path]:
    """Return the CSV files that ship with the repository, of ``ttft``, ``parity`` or ``replay``."""
    return sorted(
        path for path in resource("recorded").glob(f"*-{what}/**/*.csv") if path.stem != "predicted"
    )


def load(paths: Iterable[Path]) -> Iterator[Recording]:
    """Yield recordings.

    Raises:
        DataError: a CSV file has no JSON file beside it, or a damaged one.
    """
    for path in paths:
        beside = path.with_suffix(".json")
        try:
            yield Recording(path, json.loads(beside.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise DataError(f"{beside}: says not where {path.name} comes from ({error})") from None
