"""SGLang's scheduler loop on a CPU, around its real requests, pools, cache and batch building.

What is real: `Req`, `PrefillAdder`, the token and state pools with their allocators, the cache, and
the code that decides which states are tracked. What is replaced: the loop that calls them, and the
model. The model is a rolling hash of all tokens so far: written into the request's state slot and
beside each of its KV slots, it makes every state and every KV checkable against the tokens that it
is supposed to stand for.

With overlap, the work of a batch runs one iteration late, as on a GPU; everything that the scheduler
does meanwhile sees old memory.
"""

from array import array
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from sglang.srt.configs.mamba_utils import (
    Mamba2CacheParams,
    Mamba2StateDType,
    Mamba2StateShape,
)
from sglang.srt.managers.schedule_batch import Req, ReqKvInfo, ScheduleBatch, release_req
from sglang.srt.managers.schedule_policy import AddReqResult, PrefillAdder
from sglang.srt.managers.scheduler_components.batch_result_processor import (
    SchedulerBatchResultProcessor,
)
from sglang.srt.mem_cache.allocation import alloc_req_slots, alloc_token_slots
from sglang.srt.mem_cache.allocator import TokenToKVPoolAllocator
from sglang.srt.mem_cache.cache_init_params import CacheInitParams
from sglang.srt.mem_cache.common import maybe_cache_unfinished_req, release_kv_cache
from sglang.srt.mem_cache.memory_pool import HybridLinearKVPool, HybridReqToTokenPool
from sglang.srt.mem_cache.unified_cache_components import ComponentType
from sglang.srt.mem_cache.unified_radix_cache import UnifiedRadixCache
from sglang.srt.runtime_context import get_context
from sglang.srt.sampling.sampling_params import SamplingParams
from sglang.srt.server_args import ServerArgs

MODULUS = 16_777_213  # the largest prime that float32 holds exactly
HYBRID = (ComponentType.FULL, ComponentType.MAMBA)


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
        strategy: `--mamba-radix-cache-strategy`.
        overlap: overlap scheduling.
        context: most tokens of a request.
        track_every, track_chunk: decode interval and prefill grid of `extra_buffer`, in tokens.
    """

    kv_tokens: int
    states: int
    running: int = 1
    chunk: int | None = None
    strategy: str = "no_buffer"
    overlap: bool = False
    context: int = 4096
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
    layers = [0, 1, 3]
    requests = HybridReqToTokenPool(
        size=setup.running + 2,
        mamba_size=setup.states,
        mamba_spec_state_size=setup.running + 2,
        max_context_len=setup.context,
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
            layers=layers,
            dtype=Mamba2StateDType(conv=torch.bfloat16, temporal=torch.float32),
        ),
        mamba_layer_ids=layers,
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
        full_attention_layer_ids=[2],
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


@dataclass
class Script:
    """The tokens a request brings and gets, and how far it came."""

    prompt: list[int]
    output: list[int]
    finished: bool = False
    hit: int = 0

    @property
    def tokens(self) -> list[int]:
        return self.prompt + self.output


@dataclass
class CpuServer:
    """Serves scripted requests from a cache.

    Attributes:
        hits: prompt tokens served from the cache, in order of arrival.
        retractions, aborts: requests that were put back into the queue, or dropped in mid-prompt.
    """

    cache: UnifiedRadixCache
    setup: Setup
    new_token_ratio: float = 1.0
    hits: dict[str, int] = field(default_factory=dict)
    retractions: int = 0
    aborts: int = 0

    def __post_init__(self) -> None:
        self.requests = self.cache.req_to_token_pool
        self.kvs = self.cache.token_to_kv_pool_allocator
        self._states = self.requests.mamba_pool.mamba_cache.temporal
        self._kv_hash = np.full(self.setup.kv_tokens + 1, -1)
        self._scripts: dict[str, Script] = {}
        self._device: deque[tuple[int, Callable[[], None]]] = deque()
        self._waiting: deque[Req] = deque()
        self._running: list[Req] = []
        self._chunked: Req | None = None
        self._last: Batch | None = None
        self._batch = 0
        self._results = SimpleNamespace(
            _mamba_check_track_boundary=lambda *arguments: (
                SchedulerBatchResultProcessor._mamba_check_track_boundary(None, *arguments)
            )
        )

    # For tests

    @property
    def running(self) -> int:
        """Requests that decode."""
        return len(self._running)

    def submit(self, prompt: Sequence[int], output: Sequence[int]) -> str:
        """Queue a request; return its name."""
        name = f"r{len(self._scripts)}"
        sampling = SamplingParams(temperature=0, max_new_tokens=len(output))
        self._scripts[name] = Script(list(prompt), list(output))
        self._waiting.append(Req(name, "", array("q", prompt), sampling))
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
        self._drain()

    def enqueue(self, work: Callable[[], None]) -> None:
        """Run `work` on the device after all that was launched so far."""
        if self.setup.overlap:
            self._device.append((self._batch, work))
        else:
            work()

    def retract_last(self) -> None:
        """Put the youngest request that still decodes back into the queue."""
        self._running = [r for r in self._running if not self._script(r).finished]
        if self._running:
            self._retract(self._running.pop())

    def abort_chunked(self) -> None:
        """Drop a request between two chunks of its prompt."""
        if self._chunked is not None:
            self.aborts += 1
            self._script(self._chunked).finished = True
            release_kv_cache(self._chunked, self.cache, is_insert=False)
            self._chunked = None

    def flush(self) -> None:
        """Do what /flush_cache does to the cache, on an idle server."""
        self.cache.reset()
        self.requests.clear()
        self.kvs.clear()

    def check(self) -> None:
        """Check an idle server: nothing leaked, all bookkeeping and all content right."""
        tokens, states = self.cache.total_size()
        assert self.kvs.available_size() + tokens == self.kvs.size, "KV slots leaked"
        allocator = self.requests.mamba_allocator
        assert allocator.available_size() + states == allocator.size, "state slots leaked"
        self.cache.sanity_check()
        for tokens_to_end, node in self._nodes():
            self._check_kvs(node.component_data[ComponentType.FULL].value, tokens_to_end, node)
            state = node.component_data[ComponentType.MAMBA].value
            if state is not None and self._state(state[0]) != hash_of(tokens_to_end):
                raise WrongMemoryError(f"wrong state cached at {len(tokens_to_end)}")

    def tree(self) -> dict[tuple[int, ...], bool]:
        """Return the cached nodes: the tokens to their end, and whether they have a state."""
        return {
            tuple(tokens): node.component_data[ComponentType.MAMBA].value is not None
            for tokens, node in self._nodes()
        }

    def _nodes(self) -> Iterator[tuple[list[int], Any]]:
        pending = [([], self.cache.root_node)]
        while pending:
            tokens, node = pending.pop()
            if node is not self.cache.root_node:
                tokens = [*tokens, *node.key.raw_token_ids()]
                yield tokens, node
            pending.extend((tokens, child) for child in node.children.values())

    # The loop

    def step(self) -> bool:
        """Run one iteration; tell whether there is more to do."""
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
            self.new_token_ratio,
            1 << 20,
            self.setup.chunk,
            max_running_requests=self.setup.running,
            waiting_queue_len=len(self._waiting),
        )
        if self._chunked is not None:
            self._chunked.init_next_round_input()
            self._chunked = adder.add_chunked_req(self._chunked)
        self.requests.mamba_allocator.alloc_group_begin(len(self._waiting))
        while (
            self._waiting
            and len(self._running) + len(adder.can_run_list) < self.setup.running
            and len(adder.can_run_list) < self.requests.available_size()
        ):
            request = self._waiting[0]
            request.init_next_round_input(self.cache)
            hit = len(request.prefix_indices)
            outcome = adder.add_one_req(
                request, has_chunked_req=self._chunked is not None, truncation_align_size=None
            )
            if not adder.can_run_list or adder.can_run_list[-1] is not request:
                request.mamba_cow_src_index = None
                request.mamba_needs_clear = False
                if request.mamba_pool_idx is not None:
                    self.requests.mamba_allocator.free(request.mamba_pool_idx.unsqueeze(-1))
                    request.mamba_pool_idx = None
                assert outcome != AddReqResult.CONTINUE
                assert self._running or adder.can_run_list, f"{request.rid} fits no pool"
                break
            self._waiting.popleft()
            if not request.retracted_stain:
                self.hits[request.rid] = hit
            if outcome != AddReqResult.CONTINUE:
                break
        self.requests.mamba_allocator.alloc_group_end()
        if adder.new_chunked_req is not None:
            assert self._chunked is None, "two requests chunked at a time"
            self._chunked = adder.new_chunked_req
        requests = list(adder.can_run_list)
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
        name = request.rid

        def forward() -> None:
            if copied_from is not None:
                self._states[:, state] = self._states[:, int(copied_from[0])]
            elif clear:
                self._states[:, state] = 0
            before = self._state(state)
            if before != hash_of(tokens[:start]):
                raise WrongMemoryError(f"{name} starts at {start} from a wrong state")
            self._check_kvs(prefix, tokens[:start], name)
            self._write_kvs(slots, tokens[start:], before)
            self._states[:, state] = hash_of(tokens[start:], before)
            if tracked is not None and tracked.track_mask:
                # a state inside the prompt comes from the grid, the last one from its end
                past = tracked.track_seqlen - start
                if past % self.setup.track_chunk:
                    past -= past % self.setup.track_chunk
                    self._states[:, tracked.track_index] = hash_of(
                        tokens[start : start + past], before
                    )
                else:
                    self._states[:, tracked.track_index] = self._states[:, state]

        self.enqueue(forward)

    def _decode(self) -> Batch | None:
        while self._running:
            need = len(self._running)
            if self.kvs.available_size() < need:
                self.cache.evict(_evict_kvs(need))
            if self.kvs.available_size() >= need:
                break
            self._retract(self._running.pop())
        if not self._running:
            return None
        slots = alloc_token_slots(self.cache, len(self._running))
        for request, slot in zip(self._running, slots, strict=True):
            self._decode_one(request, slot.unsqueeze(0))
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
            before = self._state(state)
            self._write_kvs(slot, [token], before)
            self._states[:, state] = hash_of([token], before)
            if track_at is not None:
                self._states[:, track_at] = self._states[:, state]

        self.enqueue(forward)

    def _process(self, batch: Batch) -> None:
        """Take in a batch's results, as far as its work has to be done for that."""
        self._drain(batch.number)
        for request in batch.requests:
            script = self._script(request)
            if script.finished or request.is_retracted or request is batch.chunked:
                continue
            request.output_ids.append(script.output[len(request.output_ids)])
            script.finished = len(request.output_ids) == len(script.output)
            if not batch.prefill and self.setup.extra_buffer:
                SchedulerBatchResultProcessor._mamba_prefix_cache_update(
                    self._results, request, _track_batch(self.requests), None, 0
                )
            if script.finished:
                release_kv_cache(request, self.cache)
            elif batch.prefill:
                maybe_cache_unfinished_req(request, self.cache)

    def _retract(self, request: Req) -> None:
        self.retractions += 1
        release_req(
            req=request,
            remaing_req_count=len(self._running),
            server_args=SimpleNamespace(disaggregation_mode="null"),
            req_to_token_pool=self.requests,
            token_to_kv_pool_allocator=self.kvs,
            tree_cache=self.cache,
            hisparse_coordinator=None,
        )
        self._waiting.appendleft(request)

    def _drain(self, until: int | None = None) -> None:
        while self._device and (until is None or self._device[0][0] <= until):
            self._device.popleft()[1]()

    # Memory

    def _script(self, request: Req) -> Script:
        return self._scripts[request.rid]

    def _state(self, slot: Any) -> int:
        return int(self._states[0, int(slot), 0, 0, 0].item())

    def _write_kvs(self, slots: torch.Tensor, tokens: Sequence[int], before: int) -> None:
        for slot, token in zip(slots.tolist(), tokens, strict=True):
            before = hash_of([token], before)
            self._kv_hash[slot] = before

    def _check_kvs(self, slots: torch.Tensor, tokens: Sequence[int], what: Any) -> None:
        """Check the KVs of the last ``len(slots)`` tokens."""
        before = hash_of(tokens[: len(tokens) - len(slots)])
        for slot, token in zip(slots.tolist(), tokens[len(tokens) - len(slots) :], strict=True):
            before = hash_of([token], before)
            if self._kv_hash[slot] != before:
                raise WrongMemoryError(f"{what}: wrong KVs")


def _evict_kvs(tokens: int) -> Any:
    from sglang.srt.mem_cache.base_prefix_cache import EvictParams

    return EvictParams(num_tokens=tokens)


def _track_batch(requests: HybridReqToTokenPool) -> Any:
    return SimpleNamespace(
        req_to_token_pool=requests, spec_algorithm=SimpleNamespace(is_none=lambda: True)
    )
