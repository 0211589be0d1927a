"""Workloads and settings that several tests share."""

import random
from collections.abc import Iterator
from typing import Any

from marconi_core.models.paper import Geometry, PaperModel
from marconi_core.sim.server.settings import MarconiSettings
from tests.sglang_cpu.server import CpuServer

COSTS = PaperModel(Geometry(3, 1, 0, d=32, n=8))
"""A tiny model, in the paper's formulas; a state weighs as much as some tens of tokens."""

EVERY_BRANCH: dict[str, Any] = {"branch_gain": 1}
"""These workloads have prompts of some tens of tokens."""

SETTINGS: dict[str, MarconiSettings | None] = {
    "stock": None,
    "admission only": MarconiSettings(admission_only=True, **EVERY_BRANCH),
    "alpha 0": MarconiSettings(eff_weight=0.0, **EVERY_BRANCH),
    "alpha 1": MarconiSettings(eff_weight=1.0, **EVERY_BRANCH),
    "alpha 1, lambda 0": MarconiSettings(eff_weight=1.0, other_pool=0.0, **EVERY_BRANCH),
    "alpha 1, branch gain 6": MarconiSettings(eff_weight=1.0, branch_gain=6),
    "seglen": MarconiSettings(eff_weight=0.85, eviction_policy="seglen", **EVERY_BRANCH),
    "lru": MarconiSettings(eff_weight=1.0, eviction_policy="lru", **EVERY_BRANCH),
}

Request = tuple[list[int], list[int]]


def random_requests(
    seed: int, count: int, vocabulary: int = 5, longest: int = 90, outputs: int = 6
) -> Iterator[Request]:
    """Yield prompts and outputs that share prefixes by design and, with few tokens, by accident."""
    rng = random.Random(seed)
    recent: list[list[int]] = []

    def draw(low: int, high: int) -> list[int]:
        return [rng.randrange(vocabulary) for _ in range(rng.randint(low, high))]

    for _ in range(count):
        if recent and rng.random() < 0.65:
            base = rng.choice(recent)
            if rng.random() < 0.5:
                base = base[: rng.randint(1, len(base))]
            prompt = base + draw(1, 10)
        else:
            prompt = draw(1, 35)
        prompt, output = prompt[:longest], draw(1, outputs)
        recent = [*recent[-11:], prompt + output]
        yield prompt, output


def run_load(
    load: CpuServer, seed: int, requests: int = 150, retract: float = 0, abort: float = 0
) -> CpuServer:
    """Serve a workload that arrives in bursts; then check the idle server.

    Args:
        retract, abort: how likely a request is retracted or aborted at each step.
    """
    rng = random.Random(seed)
    for prompt, output in random_requests(seed, requests, vocabulary=4, outputs=30):
        load.submit(prompt, output)
        for _ in range(rng.randint(0, 12)):
            load.step()
            if rng.random() < retract and load.running > 1:
                load.retract_last()
            if rng.random() < abort:
                load.abort(rng)
    load.finish()
    load.check()
    return load
