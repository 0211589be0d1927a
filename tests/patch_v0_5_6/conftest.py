"""Tests against the classes of the patched SGLang 0.5.6.post2, in the environment of `tests/patch`.

Two releases of SGLang cannot be imported side by side, so these tests run in a process of their own:
`make test-patch`.
"""

import importlib.util
import os
import sys
from pathlib import Path

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
    from tests.patch_v0_5_6 import environment

    environment.install(SOURCE)
else:
    collect_ignore_glob = ["test_cache.py", "test_equality.py", "test_server.py"]


def pytest_report_header() -> str:
    if READY:
        return f"SGLang 0.5.6.post2's own classes: {SOURCE}"
    return "tests/patch_v0_5_6: only the build is tested; for the rest run `make test-patch`"
