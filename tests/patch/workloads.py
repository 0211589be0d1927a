"""Workloads and caches that several tests share."""

import random
from collections.abc import Iterator

from marconi_sglang.cache import MarconiRadixCache
from marconi_sglang.settings import MarconiSettings

from marconi_core.models.paper import Geometry, PaperModel
from tests.patch.cpu_server import CpuServer, Setup, cache_params, stock_cache

COSTS = PaperModel(Geometry(3, 1, 0, d=32, n=8))
"""A tiny model, in the paper's formulas; a state weighs as much as some tens of tokens."""

SETTINGS: dict[str, MarconiSettings | None] = {
    "stock": None,
    "admission only": MarconiSettings(admission_only=True),
    "alpha 0": MarconiSettings(eff_weight=0.0),
    "alpha 1": MarconiSettings(eff_weight=1.0),
    "alpha 1, lambda 0": MarconiSettings(eff_weight=1.0, other_pool=0.0),
    "seglen": MarconiSettings(eff_weight=0.85, eviction_policy="seglen"),
    "lru": MarconiSettings(eff_weight=1.0, eviction_policy="lru"),
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
            prompt = draw(5, 35)
        prompt, output = prompt[:longest], draw(1, outputs)
        recent = [*recent[-11:], prompt + output]
        yield prompt, output


def server(
    setup: Setup,
    settings: MarconiSettings | None,
    concurrent: bool | None = None,
    **options: float,
) -> CpuServer:
    """Return a server with SGLang's own cache (None), or Marconi's.

    Args:
        concurrent: let running requests find each other; None where there can be several.
    """
    params = cache_params(setup)
    if settings is None:
        return CpuServer(stock_cache(params), setup, **options)
    if concurrent is None:
        concurrent = setup.running > 1
    cache = MarconiRadixCache(params, settings, COSTS, concurrent)
    made = CpuServer(cache, setup, **options)
    cache.enqueue = lambda work, *_: made.enqueue(work)
    return made
