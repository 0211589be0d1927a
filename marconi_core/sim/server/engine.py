"""SGLang 0.5.16's way of serving a request from two pools, step by step.

Settings it stands for: `no_buffer` without overlap, page size 1; `overlap` has `extra_buffer`. Each step
below takes, frees and evicts in the order in which the server does.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from marconi_core.errors import PolicyError
from marconi_core.models.cost import CostModel
from marconi_core.policies.two_pool import (
    HEADROOM,
    EvictionSettings,
    admits,
    branch_point,
    states_to_spare,
)
from marconi_core.sim.server.lengths import check_lengths
from marconi_core.sim.server.policy import STOCK, MarconiEviction, ServerPolicy, StockEviction
from marconi_core.sim.server.tree import Inserted, Match, Node, Tokens


@dataclass(frozen=True)
class PoolSizes:
    """Sizes of a server's pools (`--max-total-tokens`, `--max-mamba-cache-size`).

    Raises:
        PolicyError: too small for any request.
    """

    kv_tokens: int
    states: int

    def __post_init__(self) -> None:
        if self.states < HEADROOM:
            raise PolicyError(f"a server needs at least {HEADROOM} state slots, not {self.states}")
        if self.kv_tokens < 3:
            raise PolicyError(f"a pool of {self.kv_tokens} KV tokens holds no request")


@dataclass(frozen=True)
class Served:
    """How a request was served.

    Attributes:
        hit: prompt tokens served from the cache (`cached_tokens` of the server).
        branch: the prompt's branch point; None where it has none.
    """

    hit: int
    branch: int | None


@dataclass
class Running:
    """A request on its way.

    Attributes:
        hit: prompt tokens served from the cache.
        branch: the prompt's branch point.
        node: what it locks.
        computed: tokens that have KVs, cached or its own.
        own_from: KVs before are the tree's.
        slots: state slots that it holds, the running state's and others.
        on_probation: nodes whose states it has cached for as long as it runs.
        tracked: where it has a state in a track buffer (`TrackingServerSimulator`).
        keeps_prompt_state: the state at the prompt's end was admitted (`OverlapServerSimulator`).
    """

    prompt: Tokens
    hit: int
    branch: int | None
    node: Node
    computed: int
    own_from: int
    slots: int
    on_probation: list[Node] = field(default_factory=list)
    tracked: int | None = None
    keeps_prompt_state: bool = False


class ServerSimulator:
    """Serves requests: here one after the other, in a `BatchingServer` several at a time.

    Attributes:
        sizes, policy, chunk: as given.
        free_tokens, free_states: what is left in the pools.
        served: requests started so far.
        first_eviction: requests seen at the first eviction, that one included; 0 for never.
        reserved_tokens: KV tokens that the scheduler leaves out when it looks if a request fits.
        states_per_request: slots in the pool for each request that may run at a time; a server with
            fewer than that does not start.
        slots_per_request: state slots that a running request holds.
        overlap: a batch is launched before the results of the one before are seen.
    """

    reserved_tokens: ClassVar[int] = 2
    states_per_request: ClassVar[int] = HEADROOM
    slots_per_request: ClassVar[int] = 1
    overlap: ClassVar[bool] = False

    def __init__(
        self,
        sizes: PoolSizes,
        policy: ServerPolicy = STOCK,
        costs: CostModel | None = None,
        chunk: int | None = None,
    ) -> None:
        """Start with an empty cache.

        Args:
            costs: the model's; needed for Marconi's eviction.
            chunk: `--chunked-prefill-size`; None for no chunked prefill.

        Raises:
            PolicyError: no costs, an impossible chunk, or too few state slots.
        """
        if policy.eviction is not None and costs is None:
            raise PolicyError("Marconi's eviction needs the model's costs")
        if chunk is not None and chunk < 1:
            raise PolicyError(f"a prefill chunk of {chunk} tokens is impossible")
        if sizes.states < self.states_per_request:
            raise PolicyError(
                f"this server needs at least {self.states_per_request} state slots, not {sizes.states}"
            )
        self.sizes, self.policy, self._costs, self.chunk = sizes, policy, costs, chunk
        self.served = self.first_eviction = 0
        self.flush()

    def flush(self) -> None:
        """Forget everything that is cached (/flush_cache)."""
        self.eviction: StockEviction | MarconiEviction
        if self.policy.eviction is not None and self._costs is not None:
            self.eviction = MarconiEviction(self._costs, self.policy.eviction)
        else:
            self.eviction = StockEviction()
        self._tree = self.eviction.tree
        self.free_tokens, self.free_states = self.sizes.kv_tokens, self.sizes.states

    def copy(self) -> "ServerSimulator":
        """Return an independent simulator with the same cache."""
        twin = copy.copy(self)
        twin.eviction = self.eviction.copy()
        twin._tree = twin.eviction.tree
        return twin

    def configure(self, settings: EvictionSettings) -> None:
        """Change how Marconi's eviction weighs its candidates, from now on.

        Raises:
            PolicyError: the policy evicts as stock SGLang does, or the objective differs.
        """
        if not isinstance(self.eviction, MarconiEviction):
            raise PolicyError("stock eviction has no settings to change")
        self.eviction.two_pool.configure(settings)
        self.policy = replace(self.policy, eviction=settings)

    @property
    def alpha(self) -> float:
        """Alpha of Marconi's eviction."""
        assert self.policy.eviction is not None
        return self.policy.eviction.alpha

    def set_alpha(self, alpha: float) -> None:
        """Change alpha and nothing else, from now on; see `configure`."""
        assert self.policy.eviction is not None
        self.configure(replace(self.policy.eviction, alpha=alpha))

    def serve(self, prompt: ArrayLike, output: ArrayLike) -> Served:
        """Serve a request.

        Args:
            prompt, output: token ids, at least one each. Without overlap, the last output token is
                sampled but never run through the model, so that it is not cached.

        Raises:
            PolicyError: the server would never start the request: it does not fit the KV pool.
        """
        prompt, output = np.asarray(prompt, np.int64), np.asarray(output, np.int64)
        if not prompt.ndim == output.ndim == 1:
            raise PolicyError("prompt and output of a request are lists of tokens")
        check_lengths(len(prompt), len(output))
        self.check_fits(self.served + 1, len(prompt) + len(output))
        self.served += 1
        request = self.look_up(prompt)
        self.start(request)
        self._prefill(request)
        self._generate(request, output)
        return Served(request.hit, request.branch)

    def check_fits(self, name: object, length: int) -> None:
        """Raise PolicyError for a request of so many tokens that the server would never start."""
        most = self.sizes.kv_tokens - self.reserved_tokens
        if length > most:
            raise PolicyError(
                f"request {name} has {length} tokens; a pool of {self.sizes.kv_tokens} KV tokens "
                f"holds at most {most}"
            )

    def tree(self) -> dict[tuple[int, ...], bool]:
        """Return the cached nodes: the tokens to their end, and whether they have a state."""
        return {tokens: node.state for tokens, node in self._tree.nodes()}

    # The steps of a request; `batching` calls them for several at a time.

    @property
    def room(self) -> int:
        """KV slots that are free or can be freed."""
        return self.free_tokens + self._tree.evictable_tokens

    def room_beside(self, request: Running) -> int:
        """Return the same while a request that has not started holds what it starts from."""
        self._tree.lock(request.node)
        room = self.room
        self._tree.unlock(request.node)
        return room

    def look_up(self, prompt: Tokens) -> Running:
        """Look the prompt up, copy the state it starts from."""
        match = self._tree.match(prompt[:-1])  # the last token is always computed
        branch = self._branch(match)
        if match.node.state:
            self._take_state(in_use=match.node)
        hit = match.state_tokens
        return Running(prompt, hit, branch, match.node, hit, hit, int(match.node.state))

    def refuse(self, request: Running) -> None:
        """Give back what a request took that was looked up and does not start."""
        self.free_states += request.slots

    def start(self, request: Running) -> None:
        """Lock what a request was found to start from."""
        self._tree.lock(request.node)
        self.eviction.use(request.node)
        request.node.on_probation = False

    def _branch(self, match: Match) -> int | None:
        """Return where to keep a state inside the prompt."""
        if self.policy.admission == "every_chunk":
            return None
        return branch_point(match.kv_tokens, match.state_tokens, self.policy.branch_gain)

    def _admits(self, request: Running, position: int) -> bool:
        """Tell whether the state at `position` of the prompt is cached for good."""
        if self.policy.admission == "every_chunk" or admits(position, request.branch):
            return True
        return self.policy.admission == "by_pressure" and states_to_spare(
            self.free_states, self.sizes.states, self.free_tokens, self.sizes.kv_tokens
        )

    def _prefill(self, request: Running) -> None:
        """Compute the prompt, chunk by chunk."""
        while request.computed < len(request.prompt):
            self.launch([(request, self._chunk_end(request))])
            if request.computed < len(request.prompt):
                self.cache_unfinished(request)

    def _chunk_end(self, request: Running) -> int:
        """Return where the next chunk ends: at the branch point, if it gets there."""
        end = self.cut(request)
        return end if self.chunk is None else min(end, request.computed + self.chunk)

    def cut(self, request: Running) -> int:
        """Return where the prompt has to be cut next, whatever the size of a chunk; or its end."""
        end = len(request.prompt)
        if request.branch is not None and request.computed < request.branch < end:
            end = request.branch
        return end

    def launch(self, chunks: Sequence[tuple[Running, int]]) -> None:
        """Compute a batch of prompts, each up to a position."""
        if (missing := HEADROOM * len(chunks) - self.free_states) > 0:
            self._evict(states=missing)
        for request, _ in chunks:
            while request.slots < self.slots_per_request:
                self._take_state()
                request.slots += 1
        self.take_tokens(sum(end - request.computed for request, end in chunks))
        for request, end in chunks:
            start, request.computed = request.computed, end
            self._launched(request, start, end)

    def _launched(self, request: Running, start: int, end: int) -> None:
        """A chunk of the prompt is being computed."""

    def _generate(self, request: Running, output: Tokens) -> None:
        """Compute the output; its first token comes with the prompt."""
        if len(output) > 1:  # else the request is finished already
            self.cache_unfinished(request)
        self._decode(len(output) - 1)
        self.finish(request, np.concatenate((request.prompt, output[:-1])))

    def cache_unfinished(self, request: Running) -> None:
        """Cache what of the prompt is computed and a copy of the state there, if admitted."""
        done = min(request.computed, len(request.prompt))  # with overlap, decoding has begun
        wanted = self._admits(request, done)
        if wanted or self.policy.probation:
            self._take_copy(request, done)
            self._cache(request, request.prompt[:done], wanted)

    def _take_copy(self, request: Running, done: int) -> None:
        """Take a slot for a copy of the running state."""
        self._take_state()

    def _cache(self, request: Running, sequence: Tokens, wanted: bool) -> None:
        """Cache a part of the prompt; go on from there. A state not `wanted` is on probation."""
        inserted = self._insert(sequence, request)
        if wanted:
            inserted.node.on_probation = False
        elif not inserted.had_state:
            inserted.node.on_probation = True
            request.on_probation.append(inserted.node)
        match = self._tree.match(sequence)
        self._tree.unlock(request.node)
        self._tree.lock(match.node)
        request.node, request.own_from = match.node, match.state_tokens

    def _decode(self, steps: int) -> None:
        """Take one KV slot a step; a full pool evicts for one token."""
        while steps > 0:
            taken = min(steps, max(self.free_tokens, 1))
            self.take_tokens(taken)
            steps -= taken

    def step_seen(self, request: Running, length: int) -> None:
        """A decoding step's result is seen; so many tokens have been launched by now."""

    def finish(self, request: Running, sequence: Tokens) -> None:
        """Cache the sequence and hand over a state at its end; give back the other slots."""
        self._insert(sequence, request).node.on_probation = False
        self.free_states += request.slots - 1
        self._tree.unlock(request.node)
        for node in request.on_probation:
            if node.on_probation and node.state and node.children and not node.state_locks:
                self._tree.drop_state(node)
                self.free_states += 1
            node.on_probation = False

    def _insert(self, sequence: Tokens, request: Running) -> Inserted:
        """Offer a sequence and a state slot to the tree; it frees what it has already."""
        inserted = self._tree.insert(sequence, request.own_from)
        self.free_tokens += inserted.duplicates
        self.free_states += inserted.had_state
        return inserted

    def _take_state(self, in_use: Node | None = None) -> None:
        """Take a state slot; `in_use` may not be evicted for it."""
        if not self.free_states:
            if in_use is not None:
                self._tree.lock(in_use)
            self._evict(states=1)
            if in_use is not None:
                self._tree.unlock(in_use)
        assert self.free_states, "the running request holds all states"
        self.free_states -= 1

    def take_tokens(self, count: int) -> None:
        """Take KV slots."""
        if self.free_tokens < count:
            self._evict(tokens=count)  # SGLang asks for all it needs, not for what is missing
        assert self.free_tokens >= count, "the running request holds all KVs"
        self.free_tokens -= count

    def _evict(self, tokens: int = 0, states: int = 0) -> None:
        self.first_eviction = self.first_eviction or self.served
        freed_tokens, freed_states = self.eviction.evict(tokens, states)
        self.free_tokens += freed_tokens
        self.free_states += freed_states
