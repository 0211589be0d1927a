"""Where the workflow's live measurements come from, and which files they are."""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from marconi_core.assets import resource
from marconi_core.config.live import LiveConfig
from marconi_core.report.predicted import PREDICTED
from marconi_core.serving import nvidia
from marconi_core.serving.recordings import recorded_files

Origin = Literal["sglang", "simulated", "recorded"]

ORIGINS: dict[Origin, str] = {
    "sglang": "Measured on this machine's GPU.",
    "simulated": "Simulated server: no GPU was used, nothing was measured. Cached tokens come from the "
    "server simulator, times from a latency model.",
    "recorded": "Recorded: taken from resources/recorded, nothing was measured on this machine. With a "
    "GPU, `snakemake live --cores all --configfile workflow/config/chats.yaml` measures part of it again.",
}
"""What captions and pages must say."""


def origin(live: LiveConfig) -> Origin:
    """Return where measurements come from here."""
    if live.server == "auto":
        return "sglang" if nvidia.gpus("name") else "recorded"
    return live.server


def recorded_inputs(what: str) -> list[str]:
    """Return the recorded files, rows and descriptions, of ``ttft``, ``parity`` or ``replay``."""
    rows = recorded_files(what)
    return [str(path) for row in rows for path in (row, row.with_suffix(".json"))]


def recorded_checklists() -> list[str]:
    """Return the recorded smoke tests."""
    return sorted(str(path) for path in resource("recorded").glob("*/*.smoke.json"))


def replay_folders() -> list[str]:
    """Return the folders of recorded replays."""
    return sorted(str(path) for path in resource("recorded").glob("*-replay"))


def recorded_predictions() -> list[str]:
    """Return the predictions of recorded replays."""
    return sorted(str(path) for path in resource("recorded").glob(f"*-replay/**/{PREDICTED}"))


def csv_files(paths: Iterable[str]) -> list[Path]:
    """Return the files with raw rows among a rule's inputs, and in those of them that are folders."""
    found: list[Path] = []
    for path in map(Path, paths):
        found += sorted(path.rglob("*.csv")) if path.is_dir() else [path]
    return [path for path in found if path.suffix == ".csv" and path.name != PREDICTED]
