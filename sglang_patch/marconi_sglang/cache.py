"""SGLang's radix cache for hybrid models with Marconi's policies."""

from collections.abc import Callable
from typing import Any

from sglang.srt.mem_cache.cache_init_params import CacheInitParams
from sglang.srt.mem_cache.unified_radix_cache import UnifiedRadixCache

from marconi_core.models.cost import CostModel
from marconi_core.sim.server import PoolSizes
from marconi_core.sim.server.settings import MarconiSettings
from marconi_sglang.components import KVS, STATES, components
from marconi_sglang.host import PolicyHost


class MarconiRadixCache(PolicyHost, UnifiedRadixCache):
    """The cache.

    Attributes:
        exact: states are cached under `extra_buffer`, without the buffers.
        enqueue: runs work on the device in order behind what was launched, given the tensors that
            the work reads; the server puts its forward stream here.
    """

    def __init__(
        self,
        params: CacheInitParams,
        settings: MarconiSettings,
        costs: CostModel | None,
        concurrent: bool = False,
        chunk: int | None = None,
    ) -> None:
        """Start with an empty cache.

        Args:
            costs: the model's; None only if SGLang's own eviction is used.
            chunk: `--chunked-prefill-size`, for the tuner; None for no chunked prefill.
        """
        self.exact = params.enable_mamba_extra_buffer
        sizes = PoolSizes(
            params.token_to_kv_pool_allocator.size, params.req_to_token_pool.mamba_allocator.size
        )
        strategy = "extra_buffer" if self.exact else "no_buffer"
        self.set_up(settings, costs, concurrent, chunk, sizes, strategy)
        self.enqueue: Callable[..., None] = run_now
        if self.exact:  # no request takes track buffers from the pool any more
            params.req_to_token_pool.enable_mamba_extra_buffer = False
        params.tree_components = (KVS, STATES)
        params.component_registry_override = components(self.exact, self.two_pool is not None)
        super().__init__(params)

    def cache_finished_req(self, req: Any, is_insert: bool = True, **options: Any) -> None:
        """Cache a finished request, and let the tuner know of it."""
        super().cache_finished_req(req, is_insert, **options)
        if is_insert:
            self.finished(req)

    def free_slots(self) -> tuple[int, int]:
        states = self.req_to_token_pool.mamba_allocator.available_size()
        return states, self.token_to_kv_pool_allocator.available_size()

    def prefill_launched(self, requests: list[Any]) -> None:
        """The last chunks of these requests' prompts are on their way."""
        if self.exact:
            self.components[STATES].copy_prompt_states(requests)


def run_now(work: Callable[[], None], *_: Any) -> None:
    """Run work at once: right where nothing is in flight, as without overlap scheduling."""
    work()
