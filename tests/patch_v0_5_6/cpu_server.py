"""The scheduler loop of SGLang 0.5.6.post2 on a CPU, around its real requests, pools and caches.

What is real: `Req`, `PrefillAdder`, the pools with their allocators, the cache. What is replaced: the
loop that calls them, and the model. The model is a rolling hash of all tokens so far: written into
the request's state slot and beside each of its KV slots, it makes every state and every KV checkable
against the tokens that it is supposed to stand for.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from sglang.srt.configs.mamba_utils import Mamba2CacheParams, Mamba2StateShape
from sglang.srt.managers.schedule_batch import Req, ScheduleBatch
from sglang.srt.managers.schedule_policy import AddReqResult, PrefillAdder
from sglang.srt.mem_cache.allocator import TokenToKVPoolAllocator
from sglang.srt.mem_cache.cache_init_params import CacheInitParams
from sglang.srt.mem_cache.common import (
    alloc_req_slots,
    alloc_token_slots,
    evict_from_tree_cache,
    release_kv_cache,
)
from sglang.srt.mem_cache.mamba_radix_cache import MambaRadixCache
from sglang.srt.mem_cache.memory_pool import HybridLinearKVPool, HybridReqToTokenPool
from sglang.srt.sampling.sampling_params import SamplingParams
from sglang.srt.server_args import ServerArgs, set_global_server_args_for_scheduler

MODULUS = 16_777_213  # the largest prime that float32 holds exactly
MAX_CONTEXT = 4096


class WrongMemoryError(AssertionError):
    """A state or KV does not belong to the tokens it is used for."""


def hash_of(tokens: Sequence[int], start: int = 0) -> int:
    """Return the rolling hash after `tokens`, continued from `start`."""
    for token in tokens:
        start = (start * 31 + token + 7) % MODULUS
    return start


@dataclass(frozen=True)
class Setup:
    """A server's settings.

    Attributes:
        kv_tokens, states: sizes of the two pools.
        running: most requests at a time.
        chunk: `--chunked-prefill-size`; None for no chunked prefill.
    """

    kv_tokens: int
    states: int
    running: int = 1
    chunk: int | None = None


def cache_params(setup: Setup) -> CacheInitParams:
    """Set the server's arguments for this process and return pools of the given sizes."""
    set_global_server_args_for_scheduler(ServerArgs(model_path="none", page_size=1))
    requests = HybridReqToTokenPool(
        size=setup.running + 2,
        mamba_size=setup.states,
        max_context_len=MAX_CONTEXT,
        device="cpu",
        enable_memory_saver=False,
        cache_params=Mamba2CacheParams(
            shape=Mamba2StateShape.create(
                tp_world_size=1,
                intermediate_size=32,
                n_groups=1,
                num_heads=2,
                head_dim=16,
                state_size=8,
                conv_kernel=4,
            ),
            layers=[0, 1, 3],
        ),
    )
    kvs = HybridLinearKVPool(
        size=setup.kv_tokens,
        dtype=torch.bfloat16,
        page_size=1,
        head_num=1,
        head_dim=8,
        full_attention_layer_ids=[2],
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


@dataclass
class Script:
    """The tokens that a request brings and gets."""

    prompt: list[int]
    output: list[int]

    @property
    def tokens(self) -> list[int]:
        return self.prompt + self.output


@dataclass
class CpuServer:
    """Serves scripted requests from a cache.

    Attributes:
        hits: prompt tokens served from the cache, by request.
        retractions: requests that were put back for want of memory.
    """

    cache: MambaRadixCache
    setup: Setup
    hits: dict[str, int] = field(default_factory=dict)
    retractions: int = 0

    def __post_init__(self) -> None:
        self.requests = self.cache.req_to_token_pool
        self.kvs = self.cache.token_to_kv_pool_allocator
        self._states = self.requests.mamba_pool.mamba_cache.temporal
        self._kv_hash = np.full(self.setup.kv_tokens + 1, -1)
        self._scripts: dict[str, Script] = {}
        self._waiting: deque[Req] = deque()
        self._running: list[Req] = []
        self._chunked: Req | None = None

    # For tests

    def submit(self, prompt: Sequence[int], output: Sequence[int]) -> str:
        """Queue a request; return its name."""
        name = f"r{len(self._scripts)}"
        self._scripts[name] = Script(list(prompt), list(output))
        sampling = SamplingParams(temperature=0, max_new_tokens=len(output))
        self._waiting.append(Req(name, "", list(prompt), sampling))
        return name

    def serve(self, prompt: Sequence[int], output: Sequence[int]) -> int:
        """Serve one request to its end; return its hit."""
        name = self.submit(prompt, output)
        self.finish()
        return self.hits[name]

    def finish(self) -> None:
        """Run until nothing is left to do."""
        while self.step():
            pass

    def step(self) -> bool:
        """Run a prefill batch, or else a decode batch; tell whether there was one."""
        return self._prefill() or self._decode()

    def retract_last(self) -> None:
        """Put the youngest running request back into the queue."""
        self.retractions += 1
        batch = SimpleNamespace(reqs=self._running, tree_cache=self.cache)
        arguments = SimpleNamespace(disaggregation_mode="null")
        ScheduleBatch.release_req(batch, len(self._running) - 1, len(self._running) - 1, arguments)
        self._waiting.appendleft(self._running.pop())

    def abort_waiting(self) -> None:
        """Drop the first waiting request, as the scheduler does on an abort."""
        request = self._waiting.popleft()
        if request.mamba_pool_idx is not None:
            release_kv_cache(request, self.cache, is_insert=False)

    def flush(self) -> None:
        """Do what /flush_cache does to the cache, on an idle server."""
        self.cache.reset()
        self.requests.clear()
        self.requests.mamba_pool.clear()
        self.kvs.clear()

    def check(self) -> None:
        """Check an idle server: nothing leaked, all bookkeeping and all content right."""
        tokens, states = self.cache.total_size()
        assert self.kvs.available_size() + tokens == self.kvs.size, "KV slots leaked"
        pool = self.requests.mamba_pool
        assert pool.available_size() + states == pool.size, "state slots leaked"
        assert self.requests.available_size() == self.setup.running + 2, "request slots leaked"
        assert self.cache.full_protected_size() == self.cache.mamba_protected_size() == 0
        self.cache.sanity_check()
        for tokens_to_end, node in self._nodes():
            self._check_kvs(node.value, tokens_to_end, "a cached node")
            if node.mamba_value is not None:
                self._check_state(node.mamba_value[0], tokens_to_end, "a cached node")

    def tree(self) -> dict[tuple[int, ...], bool]:
        """Return the cached nodes: the tokens to their end, and whether they have a state."""
        return {tuple(tokens): node.mamba_value is not None for tokens, node in self._nodes()}

    def _nodes(self) -> Iterator[tuple[list[int], Any]]:
        pending = [([], self.cache.root_node)]
        while pending:
            tokens, node = pending.pop()
            if node is not self.cache.root_node:
                tokens = [*tokens, *node.key.token_ids]
                yield tokens, node
            pending.extend((tokens, child) for child in node.children.values())

    # The loop

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
        if self._chunked is not None:
            self._chunked.init_next_round_input()
            self._chunked = adder.add_chunked_req(self._chunked)
        while self._waiting and len(self._running) + len(adder.can_run_list) < self.setup.running:
            request = self._waiting[0]
            request.init_next_round_input(self.cache)
            hit = len(request.prefix_indices)
            outcome = adder.add_one_req(
                request, has_chunked_req=self._chunked is not None, truncation_align_size=None
            )
            if not adder.can_run_list or adder.can_run_list[-1] is not request:
                assert self._running or adder.can_run_list, f"{request.rid} fits no pool"
                break
            self._waiting.popleft()
            self.hits.setdefault(request.rid, hit)
            if outcome != AddReqResult.CONTINUE:
                break
        if adder.new_chunked_req is not None:
            assert self._chunked is None, "two requests between two chunks"
            self._chunked = adder.new_chunked_req
        batch = list(adder.can_run_list)
        if not batch:
            return False
        places = alloc_req_slots(self.requests, len(batch), batch, self.cache)
        slots = alloc_token_slots(self.cache, sum(r.extend_input_len for r in batch))
        for request, place in zip(batch, places, strict=True):
            request.req_pool_idx = place
            self._extend(request, slots[: request.extend_input_len])
            slots = slots[request.extend_input_len :]
        for request in batch:
            if request is not self._chunked and not self._sampled(request):
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
        tokens = self._scripts[request.rid].tokens[:end]
        state = self.requests.get_mamba_indices(torch.tensor([place]))
        if start == 0:  # the model starts from nothing, whatever the slot holds
            self._states[:, state] = 0
        self._check_state(state[0], tokens[:start], request.rid)
        self._check_kvs(prefix, tokens[:start], request.rid)
        self._run(state, slots, tokens[start:])

    def _decode(self) -> bool:
        while self._running:
            need = len(self._running)
            evict_from_tree_cache(self.cache, need)
            if self.kvs.available_size() >= need:
                break
            self.retract_last()
        if not self._running:
            return bool(self._waiting)
        slots = alloc_token_slots(self.cache, len(self._running))
        for request, slot in zip(list(self._running), slots.split(1), strict=True):
            position, place = request.kv_committed_len, request.req_pool_idx
            self.requests.write((place, slice(position, position + 1)), slot.to(torch.int32))
            request.kv_committed_len += 1
            request.kv_allocated_len += 1
            token = self._scripts[request.rid].tokens[position]
            self._run(self.requests.get_mamba_indices(torch.tensor([place])), slot, [token])
            if self._sampled(request):
                self._running.remove(request)
        return True

    def _sampled(self, request: Req) -> bool:
        """Give a request its next token; release it with its last one."""
        output = self._scripts[request.rid].output
        request.output_ids.append(output[len(request.output_ids)])
        if finished := len(request.output_ids) == len(output):
            release_kv_cache(request, self.cache)
        return finished

    # Memory

    def _run(self, state: torch.Tensor, slots: torch.Tensor, tokens: Sequence[int]) -> None:
        value = int(self._states[0, int(state[0]), 0, 0, 0])
        for slot, token in zip(slots.tolist(), tokens, strict=True):
            value = hash_of([token], value)
            self._kv_hash[slot] = value
        self._states[:, state] = value

    def _check_state(self, slot: Any, tokens: Sequence[int], what: str) -> None:
        if int(self._states[0, int(slot), 0, 0, 0]) != hash_of(tokens):
            raise WrongMemoryError(f"{what}: wrong state after {len(tokens)} tokens")

    def _check_kvs(self, slots: torch.Tensor, tokens: Sequence[int], what: str) -> None:
        """Check the KVs of the last ``len(slots)`` tokens."""
        before = hash_of(tokens[: len(tokens) - len(slots)])
        for slot, token in zip(slots.tolist(), tokens[len(tokens) - len(slots) :], strict=True):
            before = hash_of([token], before)
            if self._kv_hash[slot] != before:
                raise WrongMemoryError(f"{what}: wrong KVs")
