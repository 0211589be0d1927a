"""Marconi in place of the components of SGLang's `UnifiedRadixCache`.

Two jobs are kept apart. Admission decides which states are offered to the cache, when a request is
cached; it differs between the two strategies of SGLang. Following reports what happens to the tree
to a `TwoPoolEviction` and lets it choose what to evict; it is the same for both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sglang.srt.mem_cache.base_prefix_cache import EvictParams
from sglang.srt.mem_cache.unified_cache_components import (
    ComponentType,
    EvictLayer,
    FullComponent,
    MambaComponent,
)

if TYPE_CHECKING:
    from sglang.srt.mem_cache.base_prefix_cache import MatchResult

    from marconi_sglang.cache import MarconiRadixCache

KVS, STATES = ComponentType.FULL, ComponentType.MAMBA


class BranchPointAdmission(MambaComponent):
    """Admission under `no_buffer`: states at branch points and after the last decoded token.

    A branch point is seen when a prompt is looked up: its KVs match further than any state. The
    prompt's prefill is cut there (`prefill`), and of all the states that SGLang offers on the way,
    only the one at the cut is taken; the others too while there are states to spare.

    A server with several requests at a time takes the others as well, but on probation: without
    them, prompts that share a prefix and run together would find neither each other's states nor
    each other's KVs. When the request ends, those that no other request has used give up their
    state again.
    """

    cache: MarconiRadixCache

    def finalize_match_result(
        self, result: MatchResult, params: Any, value_chunks: list[Any], best_value_len: int
    ) -> MatchResult:
        if params.req is not None:
            lengths = [len(chunk) for chunk in value_chunks]
            self.cache.matched(params.req, sum(lengths), sum(lengths[:best_value_len]))
        return super().finalize_match_result(result, params, value_chunks, best_value_len)

    def prepare_for_caching_req(
        self, req: Any, insert_params: Any, token_ids_len: int, is_finished: bool
    ) -> int | None:
        insert_params.on_probation_for = None
        insert_params.at_branch = not is_finished and self.cache.at_branch(req, token_ids_len)
        if is_finished:
            return self._offer_last(req, insert_params, token_ids_len)
        if not self._keeps_state(req, insert_params, token_ids_len):
            if not self.cache.concurrent:
                self.cache.statistics.vetoed_states += 1
                return 0  # nothing is cached now; the KVs stay with the request until it ends
            insert_params.on_probation_for = req
        return self._offer_copy(req, insert_params, token_ids_len)

    def commit_insert_component_data(
        self, node: Any, is_new_leaf: bool, params: Any, result: Any
    ) -> None:
        super().commit_insert_component_data(node, is_new_leaf, params, result)
        if params.on_probation_for is None:
            self.cache.on_probation.pop(node.id, None)
            self.cache.statistics.branch_states += params.at_branch and not result.mamba_exist
        elif not result.mamba_exist:
            self.cache.put_on_probation(node, params.on_probation_for)

    def cleanup_after_caching_req(
        self,
        req: Any,
        is_finished: bool,
        insert_result: Any = None,
        insert_params: Any = None,
    ) -> None:
        super().cleanup_after_caching_req(req, is_finished, insert_result, insert_params)
        # a prompt that is aborted between two chunks has ended, too; one that is retracted has not
        if is_finished and (insert_result is not None or req.finished()):
            for node in self.cache.end_probation(req):
                if node.component_data[STATES].lock_ref == 0:
                    give_up_state(self, node, dict.fromkeys(self.cache.tree_components, 0))

    def evict_component(self, node: Any, target: EvictLayer = EvictLayer.DEVICE) -> tuple[int, int]:
        self.cache.on_probation.pop(node.id, None)
        return super().evict_component(node, target)

    def _keeps_state(self, req: Any, insert_params: Any, position: int) -> bool:
        """Tell whether the state that is offered is cached for good."""
        return self.cache.keeps_state(req, position)

    def _offer_last(self, req: Any, insert_params: Any, position: int) -> int | None:
        """Offer the state of a finished request."""
        return super().prepare_for_caching_req(req, insert_params, position, True)

    def _offer_copy(self, req: Any, insert_params: Any, position: int) -> int | None:
        """Offer a copy of the state of a running request."""
        return super().prepare_for_caching_req(req, insert_params, position, False)


class ExactAdmission(BranchPointAdmission):
    """The same under `extra_buffer` with overlap scheduling, at exact positions.

    SGLang's own way is to have the model copy states into track buffers, on a grid. Here the buffers
    are not used (the cache drops them): the running state itself is cached. That it is the right
    one is a matter of order on the device:

    * Between two chunks of a prompt, the running state is the one at the end of the first. A copy
      of it is queued behind the first and before the second.
    * At the end of a prompt, the first decoding step is on its way already when SGLang offers the
      state. If it is wanted, its copy was queued when the prefill was launched
      (`copy_prompt_states`).
    * When a request ends, its running state has taken in all tokens launched so far, which is what
      `kv_committed_len` counts; nothing more will be launched, so the state itself is handed over.
    """

    def __init__(self, cache: Any, params: Any) -> None:
        super().__init__(cache, params)
        self.enable_mamba_extra_buffer = False  # hand over the running state, as without buffers

    def copy_prompt_states(self, requests: list[Any]) -> None:
        """Queue copies of the states of requests whose prompts have just been launched in full."""
        for req in requests:
            req.marconi_keeps_prompt_state = self.cache.keeps_state(req, len(req.origin_input_ids))
            wanted = req.marconi_keeps_prompt_state or self.cache.concurrent
            if wanted and (copy := self._take_slot()) is not None:
                self._queue_copy(req, copy)
                req.marconi_prompt_state = copy

    def _keeps_state(self, req: Any, insert_params: Any, position: int) -> bool:
        if insert_params.chunked:
            return super()._keeps_state(req, insert_params, position)
        return bool(getattr(req, "marconi_keeps_prompt_state", False))

    def cleanup_after_caching_req(
        self,
        req: Any,
        is_finished: bool,
        insert_result: Any = None,
        insert_params: Any = None,
    ) -> None:
        super().cleanup_after_caching_req(req, is_finished, insert_result, insert_params)
        if (unused := _prompt_state(req)) is not None:
            self._free_mamba_value(unused)

    def _offer_last(self, req: Any, insert_params: Any, position: int) -> int | None:
        if position != req.kv_committed_len:
            return 0  # the end of the output was cut off, and the state is past that
        return super()._offer_last(req, insert_params, position)

    def _offer_copy(self, req: Any, insert_params: Any, position: int) -> int | None:
        if insert_params.chunked:
            copy = self._alloc_mamba_slot()
            self._queue_copy(req, copy)
        elif (copy := _prompt_state(req)) is None:
            self.cache.statistics.vetoed_states += 1
            return 0
        insert_params.mamba_value = copy
        return position

    def _queue_copy(self, req: Any, copy: Any) -> None:
        pool = self.cache.req_to_token_pool
        running = pool.translate_mamba_indices(req.mamba_pool_idx.unsqueeze(0).clone())
        target = pool.translate_mamba_indices(copy)
        self.cache.enqueue(lambda: pool.mamba_pool.copy_from(running, target), running, target)

    def _take_slot(self) -> Any:
        """Return a state slot, or None if all are in use."""
        allocator = self.cache.req_to_token_pool.mamba_allocator
        slot = allocator.alloc(1)
        if slot is None:
            self.cache.evict(EvictParams(num_tokens=0, mamba_num=1))
            slot = allocator.alloc(1)
        return slot


def give_up_state(component: MambaComponent, node: Any, freed: dict[ComponentType, int]) -> None:
    """Take the state from a node that keeps its KVs; count what is freed."""
    cache = component.cache
    cache._evict_component_and_detach_lru(node, component, target=EvictLayer.DEVICE, tracker=freed)
    cache._cascade_evict(node, component, freed)


def _prompt_state(req: Any) -> Any:
    """Take the copy of a request's state at the end of its prompt, if there is one."""
    copy = getattr(req, "marconi_prompt_state", None)
    req.marconi_prompt_state = None
    return copy


class FollowedStates(MambaComponent):
    """Reports splits, insertions, states and their locks; evicts states as Marconi chooses."""

    cache: MarconiRadixCache

    def redistribute_on_node_split(self, new_parent: Any, child: Any) -> None:
        super().redistribute_on_node_split(new_parent, child)
        self.cache.edge_split(new_parent, child)

    def commit_insert_component_data(
        self, node: Any, is_new_leaf: bool, params: Any, result: Any
    ) -> None:
        if is_new_leaf:
            self.cache.leaf_added(node)
        super().commit_insert_component_data(node, is_new_leaf, params, result)
        if not result.mamba_exist:
            self.cache.two_pool.add_state(self.cache.number(node))

    def evict_component(self, node: Any, target: EvictLayer = EvictLayer.DEVICE) -> tuple[int, int]:
        freed = super().evict_component(node, target)
        if freed[0] and self.cache.follows(node):  # not if its leaf was reported as removed
            self.cache.two_pool.remove_state(self.cache.number(node))
        return freed

    def acquire_component_lock(self, node: Any, result: Any, lock_host: bool = False) -> Any:
        result = super().acquire_component_lock(node, result, lock_host)
        self._report_lock(node)
        return result

    def release_component_lock(self, node: Any, params: Any, lock_host: bool = False) -> None:
        super().release_component_lock(node, params, lock_host)
        self._report_lock(node)

    def drive_eviction(self, params: Any, tracker: dict[ComponentType, int]) -> None:
        cache = self.cache

        def drop_leaf(number: int) -> None:
            cache._evict_device_leaf(cache.node(number), tracker)

        def drop_state(number: int) -> None:
            give_up_state(self, cache.node(number), tracker)

        cache.two_pool.evict(
            "states", lambda: tracker[STATES] >= params.mamba_num, drop_leaf, drop_state
        )

    def _report_lock(self, node: Any) -> None:
        if node is not self.cache.root_node:
            locks = node.component_data[STATES].lock_ref
            self.cache.two_pool.lock_state(self.cache.number(node), locks)


class FollowedKvs(FullComponent):
    """Reports removed leaves and locks; evicts KVs as Marconi chooses."""

    cache: MarconiRadixCache

    def evict_component(self, node: Any, target: EvictLayer = EvictLayer.DEVICE) -> tuple[int, int]:
        freed = super().evict_component(node, target)
        if freed[0]:
            self.cache.leaf_removed(node)
        return freed

    def acquire_component_lock(self, node: Any, result: Any, lock_host: bool = False) -> Any:
        result = super().acquire_component_lock(node, result, lock_host)
        self._report_lock(node, 1)
        return result

    def release_component_lock(self, node: Any, params: Any, lock_host: bool = False) -> None:
        super().release_component_lock(node, params, lock_host)
        self._report_lock(node, -1)

    def drive_eviction(self, params: Any, tracker: dict[ComponentType, int]) -> None:
        cache = self.cache

        def drop_leaf(number: int) -> None:
            cache._evict_device_leaf(cache.node(number), tracker)

        cache.two_pool.evict(
            "kvs", lambda: tracker[KVS] >= params.num_tokens, drop_leaf, cache.never_drops_a_state
        )

    def _report_lock(self, node: Any, change_by: int) -> None:
        if node is not self.cache.root_node:
            self.cache.two_pool.lock_kvs(self.cache.number(node), change_by)


class MarconiStates(FollowedStates, BranchPointAdmission):
    """Marconi under `no_buffer`."""


class ExactMarconiStates(FollowedStates, ExactAdmission):
    """Marconi under `extra_buffer`."""


def components(exact: bool, follow: bool) -> dict[ComponentType, type]:
    """Return what to put in place of SGLang's components.

    Args:
        exact: for `extra_buffer`.
        follow: evict as Marconi chooses; if not, as SGLang does.
    """
    if not follow:
        return {STATES: ExactAdmission if exact else BranchPointAdmission}
    return {KVS: FollowedKvs, STATES: ExactMarconiStates if exact else MarconiStates}
