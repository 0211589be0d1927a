"""Servers of SGLang 0.5.6.post2, and the workloads that the releases share."""

from sglang.srt.marconi.cache import BranchPointCache, MarconiCache
from sglang.srt.mem_cache.mamba_radix_cache import MambaRadixCache

from marconi_core.sim.server.settings import MarconiSettings
from tests.patch_v0_5_6.cpu_server import CpuServer, Setup, cache_params
from tests.sglang_cpu.workloads import COSTS, SETTINGS, Request, random_requests

__all__ = ["COSTS", "SETTINGS", "Request", "random_requests", "server"]


def server(
    setup: Setup, settings: MarconiSettings | None, concurrent: bool | None = None
) -> CpuServer:
    """Return a server with SGLang's own cache (None), or Marconi's.

    Args:
        concurrent: let running requests find each other; None where there can be several.
    """
    params = cache_params(setup)
    if settings is None:
        return CpuServer(MambaRadixCache(params), setup)
    if concurrent is None:
        concurrent = setup.running > 1
    kind = BranchPointCache if settings.eviction is None else MarconiCache
    return CpuServer(kind(params, settings, COSTS, concurrent, setup.chunk), setup)
