"""Tests against SGLang's own classes; they run in an environment of their own: make test-patch."""

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(
    os.environ.get("MARCONI_SGLANG_SOURCE", Path(__file__).parents[2] / ".venv-sglang" / "sglang")
)
READY = (SOURCE / "sglang").is_dir() and bool(importlib.util.find_spec("torch"))

if READY:
    from tests.patch import sglang_stubs

    sglang_stubs.install(SOURCE)
else:
    collect_ignore_glob = ["test_*.py"]


def pytest_report_header() -> str:
    if READY:
        return f"SGLang's own classes: {SOURCE}"
    return "tests/patch: left out, needs SGLang and torch; run `make test-patch`"


if READY:

    @pytest.fixture(scope="session", autouse=True)
    def plugin() -> Iterator[None]:
        """The plug-in as SGLang loads it; one process is one server without parallelism."""
        from sglang.srt.plugins import load_plugins
        from sglang.srt.runtime_context import get_parallel

        load_plugins()
        with get_parallel().override(tp_rank=0, tp_size=1):
            yield
