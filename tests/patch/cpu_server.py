"""SGLang 0.5.16's scheduler loop on a CPU: what this release adds to `tests.sglang_cpu.server`.

Real beyond what is listed there: the code that decides which states are tracked. With overlap, the
work of a batch runs one iteration late, as on a GPU; everything that the scheduler does meanwhile
sees old memory.
"""

from array import array
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from sglang.srt.configs.mamba_utils import (
    Mamba2CacheParams,
    Mamba2StateDType,
    Mamba2StateShape,
)
from sglang.srt.managers.schedule_batch import (
    FINISH_ABORT,
    Req,
    ReqKvInfo,
    ScheduleBatch,
    release_req,
)
from sglang.srt.managers.schedule_policy import PrefillAdder
from sglang.srt.managers.scheduler_components.batch_result_processor import (
    SchedulerBatchResultProcessor,
)
from sglang.srt.mem_cache.allocation import alloc_req_slots, alloc_token_slots
from sglang.srt.mem_cache.allocator import TokenToKVPoolAllocator
from sglang.srt.mem_cache.base_prefix_cache import EvictParams
from sglang.srt.mem_cache.cache_init_params import CacheInitParams
from sglang.srt.mem_cache.common import maybe_cache_unfinished_req, release_kv_cache
from sglang.srt.mem_cache.memory_pool import HybridLinearKVPool, HybridReqToTokenPool
from sglang.srt.mem_cache.unified_cache_components import ComponentType
from sglang.srt.mem_cache.unified_radix_cache import UnifiedRadixCache
from sglang.srt.runtime_context import get_context
from sglang.srt.sampling.sampling_params import SamplingParams
from sglang.srt.server_args import ServerArgs

from tests.sglang_cpu import server
from tests.sglang_cpu.memory import WrongMemoryError, hash_of
from tests.sglang_cpu.server import Content

__all__ = ["CpuServer", "Setup", "WrongMemoryError", "cache_params", "hash_of", "stock_cache"]

HYBRID = (ComponentType.FULL, ComponentType.MAMBA)


@dataclass(frozen=True)
class Setup(server.Setup):
    """A server's settings.

    Attributes:
        strategy: `--mamba-radix-cache-strategy`.
        overlap: overlap scheduling.
        batch: `--max-prefill-tokens`.
        track_every, track_chunk: decode interval and prefill grid of `extra_buffer`, in tokens.
    """

    strategy: str = "no_buffer"
    overlap: bool = False
    batch: int = 1 << 20
    track_every: int = 16
    track_chunk: int = 8

    @property
    def extra_buffer(self) -> bool:
        return self.strategy != "no_buffer"


def cache_params(setup: Setup) -> CacheInitParams:
    """Set the server's arguments for this process and return pools of the given sizes."""
    arguments = ServerArgs(model_path="none", page_size=1)
    for name, value in {
        "_mamba_cache_chunk_size": setup.track_chunk,
        "mamba_track_interval": setup.track_every,
        "mamba_radix_cache_strategy": setup.strategy,
    }.items():
        object.__setattr__(arguments, name, value)
    get_context().set_server_args(arguments)
    lazy = setup.strategy == "extra_buffer_lazy"
    requests = HybridReqToTokenPool(
        size=setup.running + 2,
        mamba_size=setup.states,
        mamba_spec_state_size=setup.running + 2,
        max_context_len=setup.context,
        device="cpu",
        enable_memory_saver=False,
        cache_params=Mamba2CacheParams(
            shape=Mamba2StateShape.create(**server.STATE),
            layers=server.RECURRENT_LAYERS,
            dtype=Mamba2StateDType(conv=torch.bfloat16, temporal=torch.float32),
        ),
        mamba_layer_ids=server.RECURRENT_LAYERS,
        enable_mamba_extra_buffer=setup.extra_buffer,
        enable_mamba_extra_buffer_lazy=lazy,
        enable_overlap_schedule=setup.overlap,
    )
    kvs = HybridLinearKVPool(
        size=setup.kv_tokens,
        dtype=torch.bfloat16,
        page_size=1,
        head_num=1,
        head_dim=8,
        full_attention_layer_ids=server.ATTENTION_LAYERS,
        device="cpu",
        enable_memory_saver=False,
        mamba_pool=requests.mamba_pool,
    )
    return CacheInitParams(
        disable=False,
        req_to_token_pool=requests,
        token_to_kv_pool_allocator=TokenToKVPoolAllocator(
            size=setup.kv_tokens, dtype=torch.bfloat16, device="cpu", kvcache=kvs, need_sort=False
        ),
        page_size=1,
        enable_mamba_extra_buffer=setup.extra_buffer,
        enable_mamba_extra_buffer_lazy=lazy,
        tree_components=HYBRID,
    )


def stock_cache(params: CacheInitParams) -> UnifiedRadixCache:
    """Return the cache that SGLang makes for a hybrid model."""
    return UnifiedRadixCache(params)


@dataclass
class Batch:
    """What is launched in one iteration of the loop."""

    number: int
    prefill: bool
    requests: list[Req]
    chunked: Req | None = None


class CpuServer(server.CpuServer):
    """Serves scripted requests from a cache, with overlap or without."""

    setup: Setup

    def __init__(self, cache: Any, setup: Setup, new_token_ratio: float = 1.0) -> None:
        super().__init__(cache, setup)
        self.state_slots = self.requests.mamba_allocator
        self._new_token_ratio = new_token_ratio
        self._device: deque[tuple[int, Callable[[], None]]] = deque()
        self._last: Batch | None = None
        self._batch = 0
        self._results = SimpleNamespace(
            _mamba_check_track_boundary=lambda *arguments: (
                SchedulerBatchResultProcessor._mamba_check_track_boundary(None, *arguments)
            )
        )

    def finish(self) -> None:
        super().finish()
        self._drain()

    def enqueue(self, work: Callable[[], None]) -> None:
        """Run `work` on the device after all that was launched so far."""
        if self.setup.overlap:
            self._device.append((self._batch, work))
        else:
            work()

    def ways_to_abort(self) -> list[Callable[[], None]]:
        ways = super().ways_to_abort()
        return ways if self._chunked is None else [*ways, self.abort_chunked]

    def abort_chunked(self) -> None:
        """Drop the request between two chunks of its prompt."""
        assert self._chunked is not None
        self._script(self._chunked).finished = True
        self._chunked.finished_reason = FINISH_ABORT("Aborted")
        release_kv_cache(self._chunked, self.cache, is_insert=False)
        self._chunked = None

    def _request(self, name: str, prompt: list[int], sampling: SamplingParams) -> Req:
        return Req(name, "", array("q", prompt), sampling)

    def _content(self, node: Any) -> Content:
        kvs, states = (node.component_data[kind].value for kind in HYBRID)
        return Content(node.key.raw_token_ids(), kvs, states)

    # The loop

    def step(self) -> bool:
        self._batch += 1
        batch = self._next_batch()
        if self.setup.overlap:
            last, self._last = self._last, batch
            if last is not None:
                self._process(last)
        else:
            last, self._last = None, batch
            if batch is not None:
                self._process(batch)
        return bool(batch or last or self._waiting or self._running)

    def _next_batch(self) -> Batch | None:
        chunked = self._chunked
        if chunked is not None and chunked.extend_range.end > len(chunked.prefix_indices):
            self._batch -= 1  # still before this iteration's batch
            maybe_cache_unfinished_req(chunked, self.cache, chunked=True)
            self._batch += 1
        if self._last is not None and self._last.prefill:
            self._running += [r for r in self._last.requests if r is not self._last.chunked]
        self._running = [r for r in self._running if not self._script(r).finished]
        return self._prefill() or self._decode()

    def _prefill(self) -> Batch | None:
        adder = PrefillAdder(
            1,
            self.cache,
            self.kvs,
            SimpleNamespace(reqs=self._running),
            self._new_token_ratio,
            self.setup.batch,
            self.setup.chunk,
            max_running_requests=self.setup.running,
            waiting_queue_len=len(self._waiting),
        )
        self._continue_chunked(adder)
        self.state_slots.alloc_group_begin(len(self._waiting))
        requests = self._fill(adder)
        self.state_slots.alloc_group_end()
        if not requests:
            return None
        alloc_req_slots(self.requests, requests, self.cache)
        slots = alloc_token_slots(self.cache, sum(r.extend_range.length for r in requests))
        for request in requests:
            taken = request.extend_range.length
            self._extend(request, slots[:taken])
            slots = slots[taken:]
        if hasattr(self.cache, "prefill_launched"):  # the plug-in's hook on Scheduler.run_batch
            self.cache.prefill_launched([r for r in requests if r is not self._chunked])
        return Batch(self._batch, True, requests, self._chunked)

    def _refused(self, request: Req) -> None:
        request.mamba_cow_src_index = None
        request.mamba_needs_clear = False
        if request.mamba_pool_idx is not None:
            self.state_slots.free(request.mamba_pool_idx.unsqueeze(-1))
            request.mamba_pool_idx = None

    def _extend(self, request: Req, slots: torch.Tensor) -> None:
        start, end = request.extend_range.start, request.extend_range.end
        self.requests.write((request.req_pool_idx, slice(0, start)), request.prefix_indices)
        self.requests.write((request.req_pool_idx, slice(start, end)), slots)
        if request.kv is None:
            request.kv = ReqKvInfo(kv_allocated_len=end, swa_evicted_seqlen=0)
        request.kv.kv_allocated_len = request.kv_committed_len = end
        tracked = None
        if self.setup.extra_buffer:
            tracked = ScheduleBatch._mamba_radix_cache_v2_req_prepare_for_extend(
                SimpleNamespace(req_to_token_pool=self.requests, tree_cache=self.cache), request
            )
        tokens = self._script(request).tokens[:end]
        state = int(request.mamba_pool_idx)
        copied_from = request.mamba_cow_src_index
        clear = request.mamba_needs_clear
        request.mamba_cow_src_index, request.mamba_needs_clear = None, False
        request.is_retracted = False
        prefix = request.prefix_indices.clone()

        def forward() -> None:
            if copied_from is not None:
                self._memory.set_state(state, self._memory.state(copied_from[0]))
            elif clear:
                self._memory.set_state(state, 0)
            self._check_start(request, state, prefix, tokens[:start])
            before = self._memory.state(state)
            self._memory.run(state, slots, tokens[start:])
            if tracked is not None and tracked.track_mask:
                # a state inside the prompt comes from the grid, the last one from its end
                past = tracked.track_seqlen - start
                on_grid = past - past % self.setup.track_chunk
                upto = end if past == on_grid else start + on_grid
                self._memory.set_state(tracked.track_index, hash_of(tokens[start:upto], before))

        self.enqueue(forward)

    def _decode(self) -> Batch | None:
        while self._running:
            need = len(self._running)
            if self.kvs.available_size() < need:
                self.cache.evict(EvictParams(num_tokens=need))
            if self.kvs.available_size() >= need:
                break
            self._retract(self._running[-1])
        if not self._running:
            return None
        slots = alloc_token_slots(self.cache, len(self._running))
        for request, slot in zip(self._running, slots.split(1), strict=True):
            self._decode_one(request, slot)
        return Batch(self._batch, False, list(self._running))

    def _decode_one(self, request: Req, slot: torch.Tensor) -> None:
        position = request.kv_committed_len
        self.requests.write((request.req_pool_idx, slice(position, position + 1)), slot)
        request.kv_committed_len += 1
        request.kv.kv_allocated_len += 1
        script = self._script(request).tokens
        # with overlap, one step more than needed is launched
        token = script[position] if position < len(script) else 0
        state, track_at = int(request.mamba_pool_idx), None
        if self.setup.extra_buffer and (position + 1) % self.setup.track_every == 0:
            mapping = self.requests.req_index_to_mamba_ping_pong_track_buffer_mapping
            track_at = int(mapping[request.req_pool_idx][request.mamba_next_track_idx or 0])

        def forward() -> None:
            self._memory.run(state, slot, [token])
            if track_at is not None:
                self._memory.set_state(track_at, self._memory.state(state))

        self.enqueue(forward)

    def _process(self, batch: Batch) -> None:
        """Take in a batch's results, as far as its work has to be done for that."""
        self._drain(batch.number)
        for request in batch.requests:
            script = self._script(request)
            if script.finished or request.is_retracted or request is batch.chunked:
                continue
            finished = self._sample(request)
            if not batch.prefill and self.setup.extra_buffer:
                track_batch = SimpleNamespace(
                    req_to_token_pool=self.requests,
                    spec_algorithm=SimpleNamespace(is_none=lambda: True),
                )
                SchedulerBatchResultProcessor._mamba_prefix_cache_update(
                    self._results, request, track_batch, None, 0
                )
            if finished:
                release_kv_cache(request, self.cache)
            elif batch.prefill:
                maybe_cache_unfinished_req(request, self.cache)

    def _put_back(self, request: Req) -> None:
        release_req(
            req=request,
            remaing_req_count=len(self._running),
            server_args=SimpleNamespace(disaggregation_mode="null"),
            req_to_token_pool=self.requests,
            token_to_kv_pool_allocator=self.kvs,
            tree_cache=self.cache,
            hisparse_coordinator=None,
        )

    def _drain(self, until: int | None = None) -> None:
        while self._device and (until is None or self._device[0][0] <= until):
            self._device.popleft()[1]()
