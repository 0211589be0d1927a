"""Servers and workloads that several tests share."""

import random
from collections.abc import Iterator

from marconi_sglang.settings import MarconiSettings
from sglang.srt.marconi.cache import BranchPointCache, MarconiCache
from sglang.srt.mem_cache.mamba_radix_cache import MambaRadixCache

from marconi_core.models.paper import Geometry, PaperModel
from tests.patch_v0_5_6.cpu_server import CpuServer, Setup, cache_params

COSTS = PaperModel(Geometry(3, 1, 0, d=32, n=8))
"""A tiny model, in the paper's formulas; a state weighs as much as some tens of tokens."""

SETTINGS: dict[str, MarconiSettings | None] = {
    "stock": None,
    "admission only": MarconiSettings(admission_only=True),
    "alpha 0": MarconiSettings(eff_weight=0.0),
    "alpha 1": MarconiSettings(eff_weight=1.0),
    "alpha 1, lambda 0": MarconiSettings(eff_weight=1.0, other_pool=0.0),
    "seglen": MarconiSettings(eff_weight=0.85, eviction_policy="seglen"),
}

Request = tuple[list[int], list[int]]


def random_requests(seed: int, count: int) -> Iterator[Request]:
    """Yield prompts and outputs that share prefixes by design and, with few tokens, by accident."""
    rng = random.Random(seed)
    recent: list[list[int]] = []

    def draw(low: int, high: int) -> list[int]:
        return [rng.randrange(5) for _ in range(rng.randint(low, high))]

    for _ in range(count):
        if recent and rng.random() < 0.65:
            base = rng.choice(recent)
            if rng.random() < 0.5:
                base = base[: rng.randint(1, len(base))]
            prompt = base + draw(1, 10)
        else:
            prompt = draw(1, 35)
        prompt, output = prompt[:90], draw(1, 6)
        recent = [*recent[-11:], prompt + output]
        yield prompt, output


def server(setup: Setup, settings: MarconiSettings | None) -> CpuServer:
    """Return a server with SGLang's own cache (None), or Marconi's."""
    params = cache_params(setup)
    if settings is None:
        return CpuServer(MambaRadixCache(params), setup)
    if settings.eviction is None:
        return CpuServer(BranchPointCache(params, settings), setup)
    return CpuServer(MarconiCache(params, settings, settings.eviction, COSTS), setup)
