"""Imports SGLang 0.5.6.post2 on a machine with nothing but CPU torch."""

import os
import sys
from pathlib import Path
from unittest import mock

from tests.patch import sglang_stubs

VERSION = "0.5.6.post2"
HOLLOW = frozenset({"sgl_kernel", "vllm"})
"""Packages that this release mentions besides those of 0.5.16."""


def install(source: Path) -> None:
    """Make `sglang` importable from the unpacked wheel, without its top-level `__init__`."""
    os.environ.setdefault("SGLANG_MAMBA_SSM_DTYPE", "float32")
    with mock.patch.object(sglang_stubs, "HOLLOW", sglang_stubs.HOLLOW | HOLLOW):
        sglang_stubs.install(source)
    sys.modules["sglang"].__version__ = VERSION  # type: ignore[attr-defined]
