"""Tests against SGLang's own classes; they run in an environment of their own: make test-patch."""

import importlib.util
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.sglang_cpu.starting import Start

SOURCE = Path(
    os.environ.get("MARCONI_SGLANG_SOURCE", Path(__file__).parents[2] / ".venv-sglang" / "sglang")
)
READY = (SOURCE / "sglang").is_dir() and bool(importlib.util.find_spec("torch"))

if READY:
    from tests.sglang_cpu import hollow

    hollow.install(SOURCE, "0.5.16")
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

    @pytest.fixture(params=["no_buffer", "extra_buffer"])
    def start(request: pytest.FixtureRequest) -> Iterator["Start"]:
        """How the tests of `tests.sglang_cpu` start a server."""
        from tests.patch.cpu_server import Setup
        from tests.patch.workloads import server
        from tests.sglang_cpu.starting import Start, starting

        overlap = request.param == "extra_buffer"
        setup = partial(Setup, strategy=request.param, overlap=overlap)
        yield from starting(Start(request.param, server, setup, stock=Setup))
