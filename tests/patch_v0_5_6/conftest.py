"""Tests against the classes of the patched SGLang 0.5.6.post2, in the environment of `tests/patch`.

Two releases of SGLang cannot be imported side by side, so these tests run in a process of their own:
`make test-patch`.
"""

import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.sglang_cpu.starting import Start

SOURCE = Path(
    os.environ.get(
        "MARCONI_SGLANG_0_5_6_SOURCE",
        Path(__file__).parents[2] / ".venv-sglang" / "sglang-0.5.6.post2" / "source",
    )
)
READY = (
    (SOURCE / "sglang").is_dir()
    and bool(importlib.util.find_spec("torch"))
    and "sglang" not in sys.modules
)

if READY:
    from tests.sglang_cpu import hollow

    os.environ.setdefault("SGLANG_MAMBA_SSM_DTYPE", "float32")
    hollow.install(SOURCE, "0.5.6.post2", frozenset({"sgl_kernel", "vllm"}))
else:
    collect_ignore_glob = ["test_*.py"]


def pytest_report_header() -> str:
    if READY:
        return f"SGLang 0.5.6.post2's own classes: {SOURCE}"
    return "tests/patch_v0_5_6: left out, needs SGLang and torch; run `make test-patch`"


if READY:

    @pytest.fixture
    def start() -> Iterator["Start"]:
        """How the tests of `tests.sglang_cpu` start a server."""
        from tests.patch_v0_5_6.cpu_server import Setup
        from tests.patch_v0_5_6.workloads import server
        from tests.sglang_cpu.starting import Start, starting

        yield from starting(Start("0.5.6.post2", server, Setup, Setup))
