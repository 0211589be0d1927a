"""SGLang's radix cache for hybrid models with Marconi's policies.

Two jobs are kept apart, in two classes: which states are cached, and which are given up.
"""

from types import SimpleNamespace
from typing import Any

import torch
from marconi_sglang.checks import check_model
from marconi_sglang.model import model_costs
from marconi_sglang.settings import MarconiSettings
from marconi_sglang.statistics import Statistics
from sglang.srt.mem_cache.mamba_radix_cache import MambaRadixCache

from marconi_core.models.cost import CostModel
from marconi_core.policies.two_pool import (
    ROOT,
    EvictionSettings,
    Pool,
    TwoPoolEviction,
    admits,
    branch_point,
)


class BranchPointCache(MambaRadixCache):
    """Marconi's admission, SGLang's eviction.

    A branch point is seen when a prompt is looked up: its KVs match further than any state. The
    prompt's prefill is cut there, and of all the states that SGLang offers on the way only the one
    at the cut is taken. A refused state leaves its KVs with the request, until that is finished.

    SGLang takes `req.prefix_indices` for the KVs that belong to the tree. With some left out, that
    is `req.cache_protected_len` of them; the others are cut off before SGLang counts.
    """

    def __init__(self, params: Any, settings: MarconiSettings) -> None:
        self.settings = settings
        super().__init__(params)

    def reset(self) -> None:
        """Forget everything (/flush_cache)."""
        self.statistics = Statistics()
        self._kv_match = 0
        self._had_state = False
        super().reset()

    # What the scheduler asks and tells

    def chunk_limit(self, req: Any, budget: int | None) -> int | None:
        """Return the most tokens that the next chunk of a prompt may have: up to its branch point."""
        branch = getattr(req, "marconi_branch", None)
        done = len(req.prefix_indices)
        if branch is None or not done < branch < done + req.extend_input_len:
            return budget
        return branch - done if budget is None else min(branch - done, budget)

    def request_admitted(self, req: Any) -> None:
        """A request starts."""
        branch, hit = getattr(req, "marconi_branch", None), len(req.prefix_indices)
        if branch is not None and hit < branch < hit + req.extend_input_len:
            self.statistics.uncut_branches += 1
        if not req.retracted_stain:
            self.statistics.requests += 1
            self.statistics.input_tokens += len(req.origin_input_ids)
            self.statistics.hit_tokens += hit

    def marconi_state(self) -> dict[str, Any]:
        """Return settings and statistics as plain values, for /server_info."""
        counts = self.statistics
        tokens, states = self.total_size()
        return {
            "settings": self.settings.to_dict(),
            "token_hit_rate": counts.token_hit_rate,
            **vars(counts),
            "cached_tokens": tokens,
            "cached_states": states,
        }

    # Admission

    def match_prefix(self, key: Any, **options: Any) -> Any:
        self._kv_match = 0
        result = super().match_prefix(key, **options)
        req = options.get("req")
        if req is not None:
            req.marconi_branch = branch_point(self._kv_match, len(result.device_indices))
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

    def insert(self, key: Any, value: Any = None, mamba_value: Any = None) -> tuple[int, bool]:
        known, self._had_state = super().insert(key, value, mamba_value)
        return known, self._had_state

    def cache_unfinished_req(self, req: Any, chunked: bool = False) -> None:
        position = len(req.fill_ids)
        if not admits(position, getattr(req, "marconi_branch", None)):
            self.statistics.vetoed_states += 1
            if chunked:  # the next chunk starts behind everything computed so far
                slots = self.req_to_token_pool.req_to_token[req.req_pool_idx, :position]
                req.prefix_indices = slots.to(dtype=torch.int64, copy=True)
            return
        leave_to_tree(req)
        super().cache_unfinished_req(req, chunked=chunked)
        req.cache_protected_len = len(req.prefix_indices)
        self.statistics.branch_states += not self._had_state

    def cache_finished_req(self, req: Any, is_insert: bool = True) -> None:
        leave_to_tree(req)
        super().cache_finished_req(req, is_insert=is_insert)


class MarconiCache(BranchPointCache):
    """Marconi's admission and eviction.

    `TwoPoolEviction` follows the tree, by numbers in place of nodes, and chooses what is given up.
    """

    def __init__(
        self,
        params: Any,
        settings: MarconiSettings,
        eviction: EvictionSettings,
        costs: CostModel,
    ) -> None:
        self.two_pool = TwoPoolEviction(costs, eviction)
        super().__init__(params, settings)

    def reset(self) -> None:
        self._numbers: dict[int, int] = {}
        self._nodes: dict[int, Any] = {}
        self.two_pool.reset()
        super().reset()

    def request_admitted(self, req: Any) -> None:
        super().request_admitted(req)
        self.two_pool.use(self._number(req.last_node))

    def marconi_state(self) -> dict[str, Any]:
        return {
            **super().marconi_state(),
            "alpha": self.two_pool.settings.alpha,
            "cached_nodes": self.two_pool.cached_nodes,
            "evictions": {
                f"{pool}/{kind}": count
                for (pool, kind), count in sorted(self.two_pool.evictions.items())
            },
        }

    # Following the tree

    def _split_node(self, key: Any, child: Any, split_len: int) -> Any:
        upper = super()._split_node(key, child, split_len)
        self._name(upper, self.two_pool.split(self._number(child), split_len))
        return upper

    def _insert_helper(self, node: Any, key: Any, value: Any, mamba_value: Any) -> tuple[int, bool]:
        known, had_state = super()._insert_helper(node, key, value, mamba_value)
        if not had_state:
            end = self.mamba_lru_list.head.mamba_next  # the state used last: the one inserted
            if end.id not in self._numbers:
                self._name(end, self.two_pool.add_leaf(self._number(end.parent), len(end.key)))
            self.two_pool.add_state(self._number(end))
        return known, had_state

    def _delete_leaf(self, node: Any) -> None:
        super()._delete_leaf(node)
        self._forget(node)

    def _delete_tombstone_leaf(self, node: Any) -> None:
        super()._delete_tombstone_leaf(node)
        self._forget(node)

    def _tombstone_internal_node(self, node: Any) -> None:
        super()._tombstone_internal_node(node)
        self.two_pool.remove_state(self._number(node))

    def inc_lock_ref(self, node: Any) -> None:
        super().inc_lock_ref(node)
        self._report_lock(node, 1)

    def dec_lock_ref(self, node: Any) -> None:
        super().dec_lock_ref(node)
        self._report_lock(node, -1)

    def _report_lock(self, node: Any, change_by: int) -> None:
        if node is not self.root_node:
            number = self._number(node)
            self.two_pool.lock_state(number, node.mamba_lock_ref)
            self.two_pool.lock_kvs(number, change_by)

    def _number(self, node: Any) -> int:
        return ROOT if node is self.root_node else self._numbers[node.id]

    def _name(self, node: Any, number: int) -> None:
        self._numbers[node.id] = number
        self._nodes[number] = node

    def _forget(self, node: Any) -> None:
        number = self._numbers.pop(node.id)
        del self._nodes[number]
        self.two_pool.remove_leaf(number)

    # Eviction

    def evict(self, full_num_tokens: int) -> None:
        self._evict("kvs", full_num_tokens)

    def evict_mamba(self, mamba_num: int) -> None:
        self._evict("states", mamba_num)

    def _evict(self, pool: Pool, count: int) -> None:
        """Free so many tokens or states, if there are as many to free."""
        freed = {"kvs": 0, "states": 0}

        def drop_leaf(number: int) -> None:
            node = self._nodes[number]
            freed["kvs"] += len(node.value)
            self.token_to_kv_pool_allocator.free(node.value)
            self.full_lru_list.remove_node(node)
            if node.mamba_value is None:
                self._delete_tombstone_leaf(node)
                return
            free_state(node)
            self._delete_leaf(node)

        def drop_state(number: int) -> None:
            node = self._nodes[number]
            free_state(node)
            self._tombstone_internal_node(node)

        def free_state(node: Any) -> None:
            freed["states"] += 1
            self.req_to_token_pool.mamba_pool.free(node.mamba_value)
            self.mamba_lru_list.remove_node(node)

        self.two_pool.evict(pool, lambda: freed[pool] >= count, drop_leaf, drop_state)


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
    eviction = settings.eviction
    if eviction is None:
        return BranchPointCache(params, settings)
    costs = model_costs(SimpleNamespace(params=params, model_config=model_config))
    return MarconiCache(params, settings, eviction, costs)
