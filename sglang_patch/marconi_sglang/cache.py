"""SGLang's radix cache for hybrid models with Marconi's policies."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from sglang.srt.mem_cache.cache_init_params import CacheInitParams
from sglang.srt.mem_cache.unified_radix_cache import UnifiedRadixCache

from marconi_core.models.cost import CostModel
from marconi_core.policies.two_pool import ROOT, TwoPoolEviction
from marconi_core.sim.server import PoolSizes, ServerPolicy
from marconi_core.sim.server.tuning import Following
from marconi_sglang.components import KVS, STATES, components
from marconi_sglang.settings import MarconiSettings
from marconi_sglang.statistics import Statistics
from marconi_sglang.tuner import TunerProcess


@dataclass
class ProbationStatistics(Statistics):
    """The same, with states on probation.

    Attributes:
        probation_states: states cached until their request ends, unless another one uses them.
        kept_states: of those, the ones that another request did use.
    """

    probation_states: int = 0
    kept_states: int = 0


class MarconiRadixCache(UnifiedRadixCache):
    """The cache; `TwoPoolEviction` follows its tree, by numbers in place of nodes.

    Attributes:
        settings: as given on the command line.
        concurrent: several requests may run at a time, so that they should find each other.
        on_probation: nodes whose states go when their request ends, by their ids.
        two_pool: the eviction policy; None when SGLang's own eviction is used.
        statistics: see there.
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
        self.settings, self.concurrent = settings, concurrent
        eviction = settings.eviction
        self.two_pool: Any = None
        if eviction is not None:
            assert costs is not None
            self.two_pool = TwoPoolEviction(costs, eviction)
        self.tuner = None
        if settings.tuned:
            assert eviction is not None and costs is not None
            self.tuner = TunerProcess(
                Following(
                    PoolSizes(
                        params.token_to_kv_pool_allocator.size,
                        params.req_to_token_pool.mamba_allocator.size,
                    ),
                    ServerPolicy("branch_points", eviction, concurrent),
                    costs,
                    chunk,
                    settings.bootstrap_window_size,
                    settings.bootstrap_multiplier,
                    settings.tuning_interval,
                )
            )
        self.enqueue: Callable[..., None] = run_now
        self.exact = params.enable_mamba_extra_buffer
        if self.exact:  # no request takes track buffers from the pool any more
            params.req_to_token_pool.enable_mamba_extra_buffer = False
        params.tree_components = (KVS, STATES)
        params.component_registry_override = components(self.exact, eviction is not None)
        super().__init__(params)

    def reset(self) -> None:
        """Forget everything (/flush_cache)."""
        self.statistics = ProbationStatistics()
        self.on_probation: dict[int, Any] = {}
        self._numbers: dict[int, int] = {}
        self._nodes: dict[int, Any] = {}
        if self.two_pool is not None:
            self.two_pool.reset()
        if self.tuner is not None:
            self.tuner.flushed()
        super().reset()

    def cache_finished_req(self, req: Any, is_insert: bool = True, **options: Any) -> None:
        """Cache a finished request, and let the tuner know of it."""
        super().cache_finished_req(req, is_insert, **options)
        if self.tuner is not None and is_insert:
            # the tuner's server caches all but the last token; with overlap this one caches it too
            self.tuner.observe(req.origin_input_ids, [*req.output_ids, *([0] * self.exact)])
            if (alpha := self.tuner.poll()) is not None:
                self.two_pool.configure(replace(self.two_pool.settings, alpha=alpha))

    def admitted(self, req: Any, hit: int) -> None:
        """A request starts, with `hit` tokens from the cache."""
        if self.two_pool is not None:
            self.two_pool.use(self.number(req.last_node))
        if self.on_probation.pop(req.last_node.id, None) is not None:
            self.statistics.kept_states += 1
        if not req.retracted_stain:
            self.statistics.requests += 1
            self.statistics.input_tokens += len(req.origin_input_ids)
            self.statistics.hit_tokens += hit

    def prefill_launched(self, requests: list[Any]) -> None:
        """The last chunks of these requests' prompts are on their way."""
        if self.exact:
            self.components[STATES].copy_prompt_states(requests)

    def put_on_probation(self, node: Any, req: Any) -> None:
        """A state is cached that goes when the request ends, unless another one uses it."""
        self.statistics.probation_states += 1
        self.on_probation[node.id] = node
        req.marconi_on_probation = [*getattr(req, "marconi_on_probation", ()), node]

    def end_probation(self, req: Any) -> list[Any]:
        """Return the nodes whose states go now that a request has ended."""
        nodes = [
            node
            for node in getattr(req, "marconi_on_probation", ())
            if self.on_probation.pop(node.id, None) is not None
        ]
        req.marconi_on_probation = []
        return [n for n in nodes if n.children and n.component_data[STATES].lock_ref == 0]

    def marconi_state(self) -> dict[str, Any]:
        """Return settings and statistics as plain values, for /server_info."""
        counts = self.statistics
        state = {
            "settings": self.settings.to_dict(),
            "token_hit_rate": counts.token_hit_rate,
            **vars(counts),
        }
        if self.tuner is not None:
            state["tuner"] = {
                "status": self.tuner.status,
                "history": [
                    {"request": t["request"], "alpha": t["alpha"]} for t in self.tuner.history
                ],
            }
        if self.two_pool is not None:
            state |= {
                "alpha": self.two_pool.settings.alpha,
                "cached_states": self.two_pool.cached_states,
                "cached_nodes": self.two_pool.cached_nodes,
                "evictions": {
                    f"{pool}/{kind}": count
                    for (pool, kind), count in sorted(self.two_pool.evictions.items())
                },
            }
        return state

    # What the components report, in the policy's numbers

    def number(self, node: Any) -> int:
        return ROOT if node is self.root_node else self._numbers[node.id]

    def node(self, number: int) -> Any:
        return self._nodes[number]

    def follows(self, node: Any) -> bool:
        """Tell whether the policy knows a node."""
        return node.id in self._numbers

    def leaf_added(self, node: Any) -> None:
        self._name(node, self.two_pool.add_leaf(self.number(node.parent), len(node.key)))

    def edge_split(self, upper: Any, child: Any) -> None:
        self._name(upper, self.two_pool.split(self.number(child), len(upper.key)))

    def leaf_removed(self, node: Any) -> None:
        number = self._numbers.pop(node.id)
        del self._nodes[number]
        self.two_pool.remove_leaf(number)

    def never_drops_a_state(self, number: int) -> None:
        """KVs are freed with whole leaves only."""
        raise AssertionError(f"node {number} was to give up its state only, to free KVs")

    def _name(self, node: Any, number: int) -> None:
        self._numbers[node.id] = number
        self._nodes[number] = node


def run_now(work: Callable[[], None], *_: Any) -> None:
    """Run work at once: right where nothing is in flight, as without overlap scheduling."""
    work()
