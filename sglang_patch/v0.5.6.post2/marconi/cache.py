"""SGLang's radix cache for hybrid models with Marconi's policies.

Two jobs are kept apart, in two classes: which states are cached, and which are given up.
"""

from types import SimpleNamespace
from typing import Any

import torch
from marconi_sglang.checks import check_model
from marconi_sglang.host import PolicyHost
from marconi_sglang.model import model_costs
from sglang.srt.mem_cache.mamba_radix_cache import MambaRadixCache

from marconi_core.models.cost import CostModel
from marconi_core.policies.two_pool import Pool, warm_up
from marconi_core.sim.server import PoolSizes
from marconi_core.sim.server.settings import MarconiSettings


class BranchPointCache(PolicyHost, MambaRadixCache):
    """Marconi's admission, SGLang's eviction.

    A branch point is seen when a prompt is looked up: its KVs match further than any state. The
    prompt's prefill is cut there, and of all the states that SGLang offers on the way only the one
    at the cut is taken; the others too while there are states to spare. A refused state leaves its
    KVs with the request, until that is finished.

    A server with several requests at a time takes the others as well, but on probation, so that
    prompts with a shared prefix that run together find each other. When the request ends, those that
    no other request has used give up their state again.

    SGLang takes `req.prefix_indices` for the KVs that belong to the tree. With some left out, that
    is `req.cache_protected_len` of them; the others are cut off before SGLang counts.
    """

    def __init__(
        self,
        params: Any,
        settings: MarconiSettings,
        costs: CostModel | None = None,
        concurrent: bool = False,
        chunk: int | None = None,
    ) -> None:
        """Start with an empty cache.

        Args:
            costs: the model's; None only if SGLang's own eviction is used.
            concurrent: several requests may run at a time.
            chunk: `--chunked-prefill-size`, for the tuner; None for no chunked prefill.
        """
        sizes = PoolSizes(
            params.token_to_kv_pool_allocator.size, params.req_to_token_pool.mamba_pool.size
        )
        self.set_up(settings, costs, concurrent, chunk, sizes, "0.5.6.post2")
        super().__init__(params)

    def reset(self) -> None:
        """Forget everything (/flush_cache)."""
        self._kv_match = 0
        self._inserted: Any = None
        self._had_state = False
        super().reset()

    # What the scheduler asks and tells

    def chunk_limit(self, req: Any, budget: int | None) -> int | None:
        """Return the most tokens that the next chunk of a prompt may have: up to its branch point."""
        to_branch = tokens_to_branch(req)
        if to_branch is None:
            return budget
        return to_branch if budget is None else min(to_branch, budget)

    def request_admitted(self, req: Any) -> None:
        """A request starts."""
        self.admitted(req, len(req.prefix_indices))

    def request_deferred(self, req: Any) -> None:
        """A request that would have to be cut waits, since another one is between two chunks."""
        self.statistics.deferred_prompts += tokens_to_branch(req) is not None

    # Admission

    def free_slots(self) -> tuple[int, int]:
        states = self.req_to_token_pool.mamba_pool.available_size()
        return states, self.token_to_kv_pool_allocator.available_size()

    def match_prefix(self, key: Any, **options: Any) -> Any:
        self._kv_match = 0
        result = super().match_prefix(key, **options)
        req = options.get("req")
        if req is not None:
            self.matched(req, self._kv_match, len(result.device_indices))
        return result

    def _match_prefix_helper(self, key: Any) -> tuple[list[torch.Tensor], Any]:
        values, node = super()._match_prefix_helper(key)
        # What matches below has been split off by now, so that each edge matches as a whole.
        at, matched = node, sum(len(value) for value in values)
        while matched < len(key):
            at = at.children.get(self.get_child_key_fn(key[matched:]))
            if at is None:
                break
            matched += len(at.key)
        self._kv_match = matched
        return values, node

    def _insert_helper(self, node: Any, key: Any, value: Any, mamba_value: Any) -> tuple[int, bool]:
        known, self._had_state = super()._insert_helper(node, key, value, mamba_value)
        self._inserted = self.mamba_lru_list.head.mamba_next  # the node whose state was used last
        return known, self._had_state

    def cache_unfinished_req(self, req: Any, chunked: bool = False) -> None:
        position = len(req.fill_ids)
        wanted = self.keeps_state(req, position)
        if not (wanted or self.concurrent):
            self.statistics.vetoed_states += 1
            if chunked:  # the next chunk starts behind everything computed so far
                slots = self.req_to_token_pool.req_to_token[req.req_pool_idx, :position]
                req.prefix_indices = slots.to(dtype=torch.int64, copy=True)
            return
        leave_to_tree(req)
        super().cache_unfinished_req(req, chunked=chunked)
        req.cache_protected_len = len(req.prefix_indices)
        if wanted:
            self.on_probation.pop(self._inserted.id, None)
            self.statistics.branch_states += not self._had_state and self.at_branch(req, position)
        elif not self._had_state:
            self.put_on_probation(self._inserted, req)

    def cache_finished_req(self, req: Any, is_insert: bool = True) -> None:
        if req.is_retracted:  # aborted while it waits: SGLang takes its old place for its own still
            req.req_pool_idx = None
        leave_to_tree(req)
        super().cache_finished_req(req, is_insert=is_insert)
        if is_insert:
            self.on_probation.pop(self._inserted.id, None)
        if is_insert or req.finished():  # not of a request that was retracted
            for node in self.end_probation(req):
                if node.mamba_lock_ref == 0:
                    self._give_up_state(node)
        if is_insert:
            self.finished(req)

    def _tombstone_internal_node(self, node: Any) -> None:
        super()._tombstone_internal_node(node)
        self.on_probation.pop(node.id, None)

    def _delete_leaf(self, node: Any) -> None:
        super()._delete_leaf(node)
        self.on_probation.pop(node.id, None)

    def _give_up_state(self, node: Any) -> None:
        """Take the state from a node with children; its KVs stay."""
        self._free_state(node)
        self._tombstone_internal_node(node)

    def _free_state(self, node: Any) -> None:
        self.req_to_token_pool.mamba_pool.free(node.mamba_value)
        self.mamba_lru_list.remove_node(node)


class MarconiCache(BranchPointCache):
    """Marconi's admission and eviction: `two_pool` follows the tree and chooses what is given up."""

    # Following the tree

    def _split_node(self, key: Any, child: Any, split_len: int) -> Any:
        upper = super()._split_node(key, child, split_len)
        self.edge_split(upper, child)
        return upper

    def _insert_helper(self, node: Any, key: Any, value: Any, mamba_value: Any) -> tuple[int, bool]:
        known, had_state = super()._insert_helper(node, key, value, mamba_value)
        if not had_state:
            if not self.follows(self._inserted):
                self.leaf_added(self._inserted)
            self.two_pool.add_state(self.number(self._inserted))
        return known, had_state

    def _delete_leaf(self, node: Any) -> None:
        super()._delete_leaf(node)
        self.leaf_removed(node)

    def _delete_tombstone_leaf(self, node: Any) -> None:
        super()._delete_tombstone_leaf(node)
        self.leaf_removed(node)

    def _tombstone_internal_node(self, node: Any) -> None:
        super()._tombstone_internal_node(node)
        self.two_pool.remove_state(self.number(node))

    def inc_lock_ref(self, node: Any) -> None:
        super().inc_lock_ref(node)
        self._report_lock(node, 1)

    def dec_lock_ref(self, node: Any) -> None:
        super().dec_lock_ref(node)
        self._report_lock(node, -1)

    def _report_lock(self, node: Any, change_by: int) -> None:
        if node is not self.root_node:
            number = self.number(node)
            self.two_pool.lock_state(number, node.mamba_lock_ref)
            self.two_pool.lock_kvs(number, change_by)

    # Eviction

    def evict(self, full_num_tokens: int) -> None:
        self._evict("kvs", full_num_tokens)

    def evict_mamba(self, mamba_num: int) -> None:
        self._evict("states", mamba_num)

    def _evict(self, pool: Pool, count: int) -> None:
        """Free so many tokens or states, if there are as many to free."""
        freed = {"kvs": 0, "states": 0}

        def drop_leaf(number: int) -> None:
            node = self.node(number)
            freed["kvs"] += len(node.value)
            self.token_to_kv_pool_allocator.free(node.value)
            self.full_lru_list.remove_node(node)
            if node.mamba_value is None:
                self._delete_tombstone_leaf(node)
                return
            freed["states"] += 1
            self._free_state(node)
            self._delete_leaf(node)

        def drop_state(number: int) -> None:
            freed["states"] += 1
            self._give_up_state(self.node(number))

        self.two_pool.evict(pool, lambda: freed[pool] >= count, drop_leaf, drop_state)


def tokens_to_branch(req: Any) -> int | None:
    """Return the tokens to compute up to the prompt's branch point; None if it has none ahead."""
    branch = getattr(req, "marconi_branch", None)
    done = len(req.prefix_indices)
    if branch is None or not done < branch < done + req.extend_input_len:
        return None
    return branch - done


def leave_to_tree(req: Any) -> None:
    """Let a request claim those KVs only that belong to the tree."""
    req.prefix_indices = req.prefix_indices[: req.cache_protected_len]


def make_cache(
    params: Any,
    server_args: Any,
    model_config: Any,
    is_hybrid_ssm: bool,
    is_hybrid_swa: bool,
) -> BranchPointCache:
    """Build the cache of a server started with ``--enable-marconi``.

    Raises:
        UnsupportedSetting, ModelError: the model cannot be served with Marconi; why.
    """
    check_model(is_hybrid_ssm, is_hybrid_swa, str(model_config.model_path))
    settings = MarconiSettings.from_namespace(server_args)
    concurrent = server_args.max_running_requests != 1
    chunk = server_args.chunked_prefill_size
    if chunk is not None and chunk <= 0:  # how SGLang is told to do without
        chunk = None
    if settings.eviction is None:
        return BranchPointCache(params, settings, None, concurrent, chunk)
    costs = model_costs(SimpleNamespace(params=params, model_config=model_config))
    warm_up()
    return MarconiCache(params, settings, costs, concurrent, chunk)
