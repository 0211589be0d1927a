"""A fault of stock SGLang 0.5.16, mended, so that it can be compared with at all."""

from typing import Any

import pytest
from sglang.srt.managers.scheduler_components.batch_result_processor import (
    SchedulerBatchResultProcessor,
)


def swap_buffers_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a request swap its track buffers once at each boundary.

    A step's result is taken in when the next one is on its way, and its position is read off the
    request, which is one ahead by then; but not if a prefill went in between. Then the same boundary
    is seen twice, and the state that is cached is not the one it is taken for.
    """
    check = SchedulerBatchResultProcessor._mamba_check_track_boundary

    def check_once(self: Any, req: Any, *arguments: Any) -> tuple[bool, int]:
        at_boundary, position = check(self, req, *arguments)
        return at_boundary and position != req.mamba_last_track_seqlen, position

    monkeypatch.setattr(SchedulerBatchResultProcessor, "_mamba_check_track_boundary", check_once)
