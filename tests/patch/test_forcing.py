"""Forced outputs, as SGLang's sampler applies them."""

from types import SimpleNamespace
from typing import Any

import torch
from sglang.srt.sampling.custom_logit_processor import CustomLogitProcessor

from marconi_core.serving.forcing import PARAMETER, PROCESSOR

VOCABULARY = 50


def parameters(prompt: int, committed: int, tokens: list[int]) -> dict[str, Any]:
    request = SimpleNamespace(kv_committed_len=committed, origin_input_ids=[1] * prompt)
    return {"__req__": request, PARAMETER: tokens}


def test_sglang_unpickles_it_and_each_request_gets_its_next_token() -> None:
    processor = CustomLogitProcessor.from_str(PROCESSOR)
    rows = [parameters(10, 10, [7, 8, 9]), parameters(4, 6, [7, 8, 9]), parameters(3, 4, [30, 31])]
    logits = processor(torch.randn(len(rows), VOCABULARY), rows)
    assert logits.argmax(dim=1).tolist() == [7, 9, 31]
    assert torch.isfinite(logits).sum(dim=1).tolist() == [1, 1, 1]


def test_steps_before_and_after_the_list_get_its_ends() -> None:
    """A chunk of a prompt is sampled too, and under overlap a step after the last token."""
    processor = CustomLogitProcessor.from_str(PROCESSOR)
    rows = [parameters(10, 6, [7, 8]), parameters(10, 12, [7, 8])]
    assert processor(torch.randn(2, VOCABULARY), rows).argmax(dim=1).tolist() == [7, 8]
