"""Real data sets for the golden tests, fetched once and kept in pytest's cache.

They come from `results/data` of an earlier run, from the folder that MARCONI_DATA_MIRROR names, from
`../shared/data` beside the checkout, or by download. Tests are skipped, with the reason, only where
a data set cannot be had; a wrong one fails.
"""

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from marconi_core import datasets
from marconi_core.traces.sources import SOURCES, load_workload
from marconi_core.traces.tokenizers import build_llama2
from marconi_core.traces.trace import Workload

REPOSITORY = Path(__file__).parents[2]


def mirrors() -> list[Path]:
    named = os.environ.get("MARCONI_DATA_MIRROR")
    folders = [REPOSITORY / "results" / "data", REPOSITORY.parent / "shared" / "data"]
    return [folder for folder in ([Path(named)] if named else []) + folders if folder.is_dir()]


@pytest.fixture(scope="session")
def data_dir(request: pytest.FixtureRequest) -> Path:
    cached = request.config.cache
    assert cached is not None
    return cached.mkdir("marconi-data")


@pytest.fixture(scope="session")
def get(data_dir: Path) -> Callable[[str], Path]:
    """Fetch a registered file, or skip."""

    def fetch(name: str) -> Path:
        filename = datasets.lookup(name).filename
        holding = [m for m in mirrors() if any(m.glob(f"{filename}*"))]
        try:
            return datasets.fetch(name, data_dir, holding[0] if holding else None)
        except datasets.UnavailableError as error:
            pytest.skip(str(error))

    return fetch


@pytest.fixture(scope="session")
def tokenizer(get: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer") / "llama2-tokenizer.json"
    build_llama2(get("llama2_vocab"), path)
    return path


@pytest.fixture(scope="session")
def load(get: Callable[[str], Path], data_dir: Path, tokenizer: Path) -> Callable[[str], Workload]:
    """Load a source with its default options, once a session."""

    @cache
    def load_source(name: str) -> Workload:
        for file in SOURCES[name].files_needed:
            get(file)
        return load_workload(name, None, data_dir, tokenizer)

    return load_source


@pytest.fixture(scope="session")
def sharegpt(load: Callable[[str], Workload]) -> Workload:
    return load("sharegpt")


@pytest.fixture(scope="session")
def swebench(load: Callable[[str], Workload]) -> Workload:
    return load("swebench")
