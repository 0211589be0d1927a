"""SGLang 0.5.6.post2's scheduler loop on a CPU: what this release adds to `tests.sglang_cpu.server`."""

from types import SimpleNamespace
from typing import Any

import torch
from sglang.srt.configs.mamba_utils import Mamba2CacheParams, Mamba2StateShape
from sglang.srt.managers.schedule_batch import Req, ScheduleBatch
from sglang.srt.managers.schedule_policy import PrefillAdder
from sglang.srt.mem_cache.allocator import TokenToKVPoolAllocator
from sglang.srt.mem_cache.cache_init_params import CacheInitParams
from sglang.srt.mem_cache.common import (
    alloc_req_slots,
    alloc_token_slots,
    evict_from_tree_cache,
    release_kv_cache,
)
from sglang.srt.mem_cache.memory_pool import HybridLinearKVPool, HybridReqToTokenPool
from sglang.srt.sampling.sampling_params import SamplingParams
from sglang.srt.server_args import ServerArgs, set_global_server_args_for_scheduler

from tests.sglang_cpu import server
from tests.sglang_cpu.server import Content, Setup


def cache_params(setup: Setup) -> CacheInitParams:
    """Set the server's arguments for this process and return pools of the given sizes."""
    set_global_server_args_for_scheduler(ServerArgs(model_path="none", page_size=1))
    requests = HybridReqToTokenPool(
        size=setup.running + 2,
        mamba_size=setup.states,
        max_context_len=setup.context,
        device="cpu",
        enable_memory_saver=False,
        cache_params=Mamba2CacheParams(
            shape=Mamba2StateShape.create(**server.STATE),
            layers=server.RECURRENT_LAYERS,
        ),
    )
    kvs = HybridLinearKVPool(
        size=setup.kv_tokens,
        dtype=torch.bfloat16,
        page_size=1,
        head_num=1,
        head_dim=8,
        full_attention_layer_ids=server.ATTENTION_LAYERS,
        enable_kvcache_transpose=False,
        device="cpu",
        mamba_pool=requests.mamba_pool,
    )
    return CacheInitParams(
        disable=False,
        req_to_token_pool=requests,
        token_to_kv_pool_allocator=TokenToKVPoolAllocator(
            size=setup.kv_tokens, dtype=torch.bfloat16, device="cpu", kvcache=kvs, need_sort=False
        ),
        page_size=1,
    )


class CpuServer(server.CpuServer):
    """Serves scripted requests from a cache."""

    def __init__(self, cache: Any, setup: Setup) -> None:
        super().__init__(cache, setup)
        self.state_slots = self.requests.mamba_pool

    def flush(self) -> None:
        super().flush()
        self.state_slots.clear()

    def check(self) -> None:
        super().check()
        assert self.cache.full_protected_size() == self.cache.mamba_protected_size() == 0

    def _request(self, name: str, prompt: list[int], sampling: SamplingParams) -> Req:
        return Req(name, "", prompt, sampling)

    def _content(self, node: Any) -> Content:
        return Content(node.key.token_ids, node.value, node.mamba_value)

    # The loop

    def step(self) -> bool:
        """Run a prefill batch, or else a decode batch; tell whether there was one."""
        return self._prefill() or self._decode()

    def _prefill(self) -> bool:
        if self._chunked is not None:
            self.cache.cache_unfinished_req(self._chunked, chunked=True)
            self.requests.free(self._chunked.req_pool_idx, free_mamba_cache=False)
        adder = PrefillAdder(
            1,
            self.cache,
            self.kvs,
            SimpleNamespace(reqs=self._running),
            1.0,
            1 << 20,
            self.setup.chunk,
        )
        self._continue_chunked(adder)
        batch = self._fill(adder)
        if not batch:
            return False
        places = alloc_req_slots(self.requests, len(batch), batch, self.cache)
        slots = alloc_token_slots(self.cache, sum(r.extend_input_len for r in batch))
        for request, place in zip(batch, places, strict=True):
            request.req_pool_idx = place
            self._extend(request, slots[: request.extend_input_len])
            slots = slots[request.extend_input_len :]
        for request in batch:
            if request is self._chunked:
                continue
            if self._sample(request):
                release_kv_cache(request, self.cache)
            else:
                self.cache.cache_unfinished_req(request)
                self._running.append(request)
        return True

    def _extend(self, request: Req, slots: torch.Tensor) -> None:
        start = len(request.prefix_indices)
        end = start + len(slots)
        assert len(request.fill_ids) == end
        place, prefix = request.req_pool_idx, request.prefix_indices
        self.requests.write((place, slice(0, start)), prefix.to(torch.int32))
        self.requests.write((place, slice(start, end)), slots.to(torch.int32))
        request.kv_committed_len = request.kv_allocated_len = end
        request.is_retracted = False
        tokens = self._script(request).tokens[:end]
        state = self._state_of(place)
        if start == 0:  # the model starts from nothing, whatever the slot holds
            self._memory.set_state(state, 0)
        self._check_start(request, state, prefix, tokens[:start])
        self._memory.run(state, slots, tokens[start:])

    def _decode(self) -> bool:
        while self._running:
            need = len(self._running)
            evict_from_tree_cache(self.cache, need)
            if self.kvs.available_size() >= need:
                break
            self._retract(self._running[-1])
        if not self._running:
            return bool(self._waiting)
        slots = alloc_token_slots(self.cache, len(self._running))
        for request, slot in zip(list(self._running), slots.split(1), strict=True):
            position, place = request.kv_committed_len, request.req_pool_idx
            self.requests.write((place, slice(position, position + 1)), slot.to(torch.int32))
            request.kv_committed_len += 1
            request.kv_allocated_len += 1
            token = self._script(request).tokens[position]
            self._memory.run(self._state_of(place), slot, [token])
            if self._sample(request):
                self._running.remove(request)
                release_kv_cache(request, self.cache)
        return True

    def _state_of(self, place: int) -> int:
        """Return the state slot of the request at a place in the pool of requests."""
        return int(self.requests.get_mamba_indices(torch.tensor([place]))[0])

    def _put_back(self, request: Req) -> None:
        batch = SimpleNamespace(reqs=[request], tree_cache=self.cache)
        arguments = SimpleNamespace(disaggregation_mode="null")
        ScheduleBatch.release_req(batch, 0, len(self._running), arguments)
