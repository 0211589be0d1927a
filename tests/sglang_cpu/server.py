"""SGLang's scheduler loop on a CPU, around its real requests, pools, cache and prefill adder.

What is real: `Req`, `PrefillAdder`, the token and state pools with their allocators, the cache. What
is replaced: the loop that calls them, here and in the releases' own modules, and the model
(`memory`).
"""

import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from sglang.srt.managers.schedule_batch import Req
from sglang.srt.managers.schedule_policy import AddReqResult, PrefillAdder
from sglang.srt.mem_cache.common import release_kv_cache
from sglang.srt.sampling.sampling_params import SamplingParams

from tests.sglang_cpu.memory import Memory, Tokens, hash_of, running_hashes

RECURRENT_LAYERS, ATTENTION_LAYERS = [0, 1, 3], [2]  # of the model that is served
STATE = {
    "tp_world_size": 1,
    "intermediate_size": 32,
    "n_groups": 1,
    "num_heads": 2,
    "head_dim": 16,
    "state_size": 8,
    "conv_kernel": 4,
}
"""What `Mamba2StateShape.create` makes its states of."""


@dataclass(frozen=True)
class Setup:
    """A server's settings.

    Attributes:
        kv_tokens, states: sizes of the two pools.
        running: most requests at a time.
        chunk: `--chunked-prefill-size`; None for no chunked prefill.
        context: most tokens of a request.
    """

    kv_tokens: int
    states: int
    running: int = 1
    chunk: int | None = None
    context: int = 4096


class Script:
    """The tokens that a request brings and gets, and how far it came."""

    def __init__(self, prompt: Sequence[int], output: Sequence[int]) -> None:
        self.prompt, self.output = list(prompt), list(output)
        self.tokens = np.array([*prompt, *output], np.int64)
        self.finished = False


class Content(NamedTuple):
    """What a node of SGLang's tree holds: tokens and KV slots of its edge, a state slot or None."""

    tokens: Sequence[int]
    kvs: torch.Tensor
    state: torch.Tensor | None


class CpuServer:
    """Serves scripted requests from a cache.

    Attributes:
        cache, requests, kvs: SGLang's.
        hits: prompt tokens served from the cache, by request, in order of arrival.
        retractions, aborts: requests that were put back into the queue, or dropped.
    """

    state_slots: Any  # the allocator of state slots

    def __init__(self, cache: Any, setup: Setup) -> None:
        self.cache, self.setup = cache, setup
        self.requests = cache.req_to_token_pool
        self.kvs = cache.token_to_kv_pool_allocator
        self.hits: dict[str, int] = {}
        self.retractions = self.aborts = 0
        states = self.requests.mamba_pool.mamba_cache.temporal
        self._memory = Memory(states, setup.kv_tokens)
        self._scripts: dict[str, Script] = {}
        self._waiting: deque[Req] = deque()
        self._running: list[Req] = []
        self._chunked: Req | None = None

    # What a release adds

    def step(self) -> bool:
        """Run one iteration of the loop; tell whether there is more to do."""
        raise NotImplementedError

    def _request(self, name: str, prompt: list[int], sampling: SamplingParams) -> Req:
        raise NotImplementedError

    def _content(self, node: Any) -> Content:
        raise NotImplementedError

    def _put_back(self, request: Req) -> None:
        """Free what a request holds, so that it can start again."""
        raise NotImplementedError

    def ways_to_abort(self) -> list[Callable[[], None]]:
        """Return what an abort can meet just now."""
        ways: list[Callable[[], None]] = []
        if self._waiting:
            ways.append(self._abort_waiting)
        if self._decoding():
            ways.append(self._abort_running)
        return ways

    # For tests

    @property
    def running(self) -> int:
        """Requests that decode."""
        return len(self._running)

    def submit(self, prompt: Sequence[int], output: Sequence[int]) -> str:
        """Queue a request; return its name."""
        name = f"r{len(self._scripts)}"
        script = self._scripts[name] = Script(prompt, output)
        sampling = SamplingParams(temperature=0, max_new_tokens=len(output))
        self._waiting.append(self._request(name, script.prompt, sampling))
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

    def retract_last(self) -> None:
        """Put the youngest request that still decodes back into the queue."""
        if decoding := self._decoding():
            self._retract(decoding[-1])

    def abort(self, rng: random.Random) -> None:
        """Abort a request, if there is any: while it waits, between two chunks, or decoding."""
        if ways := self.ways_to_abort():
            self.aborts += 1
            rng.choice(ways)()

    def flush(self) -> None:
        """Do what /flush_cache does to the cache, on an idle server."""
        self.cache.reset()
        self.requests.clear()
        self.kvs.clear()

    def check(self) -> None:
        """Check an idle server: nothing leaked, all bookkeeping and all content right."""
        tokens, states = self.cache.total_size()
        assert self.kvs.available_size() + tokens == self.kvs.size, "KV slots leaked"
        assert self.state_slots.available_size() + states == self.state_slots.size, (
            "state slots leaked"
        )
        assert self.requests.available_size() == self.requests.size, "request slots leaked"
        self.cache.sanity_check()
        for tokens_to_end, node in self._nodes():
            _, kvs, state = self._content(node)
            self._memory.check_kvs(kvs, tokens_to_end, "a cached node")
            if state is not None:
                self._memory.check_state(state[0], tokens_to_end, "a cached node")

    def tree(self) -> dict[tuple[int, ...], bool]:
        """Return the cached nodes: the tokens to their end, and whether they have a state."""
        return {
            tuple(tokens): self._content(node).state is not None for tokens, node in self._nodes()
        }

    def outline(self) -> dict[tuple[int, int], bool]:
        """Return the same, with length and rolling hash of the tokens in their place: large trees."""
        outline = {}
        pending = [(0, 0, child) for child in self.cache.root_node.children.values()]
        while pending:
            length, before, node = pending.pop()
            tokens, _, state = self._content(node)
            at = length + len(tokens), hash_of(tokens, before)
            outline[at] = state is not None
            pending.extend((*at, child) for child in node.children.values())
        return outline

    def _nodes(self) -> Iterator[tuple[list[int], Any]]:
        pending: list[tuple[list[int], Any]] = [([], self.cache.root_node)]
        while pending:
            tokens, node = pending.pop()
            if node is not self.cache.root_node:
                tokens = [*tokens, *self._content(node).tokens]
                yield tokens, node
            pending.extend((tokens, child) for child in node.children.values())

    # Parts of the loop

    def _fill(self, adder: PrefillAdder) -> list[Req]:
        """Choose the requests of a prefill batch."""
        while self._waiting and len(self._running) + len(adder.can_run_list) < self.setup.running:
            request = self._waiting[0]
            request.init_next_round_input(self.cache)
            hit = len(request.prefix_indices)
            outcome = adder.add_one_req(
                request, has_chunked_req=self._chunked is not None, truncation_align_size=None
            )
            if not adder.can_run_list or adder.can_run_list[-1] is not request:
                assert outcome != AddReqResult.CONTINUE
                assert self._running or adder.can_run_list, f"{request.rid} fits no pool"
                self._refused(request)
                break
            self._waiting.popleft()
            self.hits.setdefault(request.rid, hit)
            if outcome != AddReqResult.CONTINUE:
                break
        if adder.new_chunked_req is not None:
            assert self._chunked is None, "two requests between two chunks"
            self._chunked = adder.new_chunked_req
        return list(adder.can_run_list)

    def _refused(self, request: Req) -> None:
        """A request stays in the queue."""

    def _continue_chunked(self, adder: PrefillAdder) -> None:
        """Put the next chunk of a cut prompt into the batch."""
        if self._chunked is not None:
            self._chunked.init_next_round_input()
            self._chunked = adder.add_chunked_req(self._chunked)

    def _sample(self, request: Req) -> bool:
        """Give a request its next token; tell whether that was its last one."""
        script = self._script(request)
        request.output_ids.append(script.output[len(request.output_ids)])
        script.finished = len(request.output_ids) == len(script.output)
        return script.finished

    def _decoding(self) -> list[Req]:
        return [r for r in self._running if not self._script(r).finished]

    def _retract(self, request: Req) -> None:
        self.retractions += 1
        self._running.remove(request)
        self._put_back(request)
        self._waiting.appendleft(request)

    def _abort_waiting(self) -> None:
        request = self._waiting.popleft()
        if request.mamba_pool_idx is not None:
            release_kv_cache(request, self.cache, is_insert=False)

    def _abort_running(self) -> None:
        """A running request ends with the next token it gets."""
        request = self._decoding()[0]
        script = self._script(request)
        del script.output[len(request.output_ids) + 1 :]

    def _script(self, request: Req) -> Script:
        return self._scripts[request.rid]

    def _check_start(self, request: Req, state: Any, kvs: torch.Tensor, tokens: Tokens) -> None:
        """Check what a chunk starts from: the state and the KVs of the tokens before it."""
        self._memory.check_state(state, tokens, request.rid)
        self._memory.check_kvs(kvs, tokens, request.rid)


def outline_of(root: Any) -> dict[tuple[int, int], bool]:
    """Return `CpuServer.outline` of the simulator's tree."""
    outline = {}
    pending = [(0, 0, child) for child in root.children.values()]
    while pending:
        length, before, node = pending.pop()
        at = length + len(node.tokens), int(running_hashes(node.tokens, before)[-1])
        outline[at] = node.state
        pending.extend((*at, child) for child in node.children.values())
    return outline
