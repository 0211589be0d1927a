"""Servers of SGLang 0.5.16, and the workloads that the releases share."""

from marconi_sglang.cache import MarconiRadixCache

from marconi_core.sim.server.settings import MarconiSettings
from tests.patch.cpu_server import CpuServer, Setup, cache_params, stock_cache
from tests.sglang_cpu.workloads import COSTS, SETTINGS, Request, random_requests

__all__ = ["COSTS", "SETTINGS", "Request", "random_requests", "server"]


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
    cache = MarconiRadixCache(params, settings, COSTS, concurrent, setup.chunk)
    made = CpuServer(cache, setup, **options)
    cache.enqueue = lambda work, *_: made.enqueue(work)
    return made
