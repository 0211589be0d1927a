"""Real data sets for the golden tests, fetched once and kept in pytest's cache.

`tests.real_data` says where they come from. Tests are skipped, with the reason, only where a data set
cannot be had; a wrong one fails.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from marconi_core import datasets
from marconi_core.traces.sources import SOURCES, load_workload
from marconi_core.traces.tekken import build_tekken
from marconi_core.traces.tokenizers import build_llama2
from marconi_core.traces.trace import Workload
from tests import real_data


@pytest.fixture(scope="session")
def data_dir(request: pytest.FixtureRequest) -> Path:
    cached = request.config.cache
    assert cached is not None
    return cached.mkdir("marconi-data")


@pytest.fixture(scope="session")
def get(data_dir: Path) -> Callable[[str], Path]:
    """Fetch a registered file, or skip."""

    def fetch(name: str) -> Path:
        try:
            return real_data.fetch(name, data_dir)
        except datasets.UnavailableError as error:
            pytest.skip(str(error))

    return fetch


@pytest.fixture(scope="session")
def tokenizer(get: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer") / "llama2-tokenizer.json"
    build_llama2(get("llama2_vocab"), path)
    return path


@pytest.fixture(scope="session")
def tekken(get: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tekken") / "tekken-tokenizer.json"
    build_tekken(get("tekken_vocab"), path)  # refuses other bytes than the pinned ones
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
