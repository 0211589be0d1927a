"""What a prefix cache of any SGLang release keeps for Marconi, beside SGLang's own tree."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from marconi_core.models.cost import CostModel
from marconi_core.policies.two_pool import (
    ROOT,
    TwoPoolEviction,
    admits,
    branch_point,
    states_to_spare,
)
from marconi_core.sim.server import PoolSizes, Strategy
from marconi_core.sim.server.settings import MarconiSettings
from marconi_core.sim.server.tuning import Following
from marconi_sglang.statistics import Statistics
from marconi_sglang.tuner import TunerProcess


class PolicyHost:
    """Goes in front of SGLang's cache; `TwoPoolEviction` follows its tree, by numbers for nodes.

    Attributes:
        settings: as given on the command line.
        concurrent: several requests may run at a time, so that they should find each other.
        sizes: of the pools.
        on_probation: nodes whose states go when their request ends, by their ids.
        two_pool: the eviction policy; None when SGLang's own eviction is used.
        tuner: the process that tunes alpha; None when it is fixed.
        statistics: see there.
        publish: brings metrics up to date; the server puts it here if it has any.
    """

    root_node: Any
    two_pool: Any

    def set_up(
        self,
        settings: MarconiSettings,
        costs: CostModel | None,
        concurrent: bool,
        chunk: int | None,
        sizes: PoolSizes,
        strategy: Strategy,
    ) -> None:
        """Start with nothing cached; to be called before SGLang's own constructor.

        Args:
            costs: the model's; None only if SGLang's own eviction is used.
            chunk: `--chunked-prefill-size`; None for no chunked prefill.
            sizes, strategy: the server's.
        """
        self.settings, self.concurrent, self.sizes = settings, concurrent, sizes
        self.publish: Callable[[], None] = publish_nothing
        eviction = settings.eviction
        self.two_pool = self.tuner = None
        if eviction is not None:
            assert costs is not None
            self.two_pool = TwoPoolEviction(costs, eviction)
        if settings.tuned:
            assert eviction is not None and costs is not None
            self.tuner = TunerProcess(
                Following(
                    sizes,
                    settings.policy(concurrent),
                    costs,
                    chunk,
                    strategy,
                    settings.method,
                )
            )

    def reset(self) -> None:
        """Forget everything (/flush_cache)."""
        self.publish()  # metrics go on from here; what is counted starts over
        self.statistics = Statistics()
        self.on_probation: dict[int, Any] = {}
        self._numbers: dict[int, int] = {}
        self._nodes: dict[int, Any] = {}
        if self.two_pool is not None:
            self.two_pool.reset()
        if self.tuner is not None:
            if not self.tuner.stopped:
                self.two_pool.configure(self.settings.eviction)  # an alpha that was tuned goes, too
            self.tuner.flushed()
        super().reset()  # type: ignore[misc]
        self.publish()

    # Requests

    def matched(self, req: Any, kv_match: int, state_match: int) -> None:
        """A prompt was looked up: so many of its tokens have KVs, so many lie before a state."""
        req.marconi_branch = branch_point(kv_match, state_match, self.settings.branch_gain)

    def keeps_state(self, req: Any, position: int) -> bool:
        """Tell whether the state of an unfinished prompt at `position` is cached for good."""
        if self.at_branch(req, position):
            return True
        states, tokens = self.free_slots()
        return states_to_spare(states, self.sizes.states, tokens, self.sizes.kv_tokens)

    def at_branch(self, req: Any, position: int) -> bool:
        """Tell whether an unfinished prompt has its branch point at `position`."""
        return admits(position, getattr(req, "marconi_branch", None))

    def free_slots(self) -> tuple[int, int]:
        """Return what is left in the pools: state slots, KV tokens."""
        raise NotImplementedError

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
            req.marconi_hit = hit

    def finished(self, req: Any) -> None:
        """A request has ended and is cached; the tuner is told, and maybe has a new alpha."""
        if self.tuner is not None:
            alpha = self.two_pool.settings.alpha
            # prefixes of an adapter (LoRA) or a cache salt are kept apart: not so by the simulators
            if getattr(req, "extra_key", None) is None:
                self.tuner.observe(req.origin_input_ids, req.output_ids, req.marconi_hit, alpha)
            if (alpha := self.tuner.poll()) is not None:
                eviction = self.two_pool.settings
                self.statistics.alpha_switches += alpha != eviction.alpha
                self.two_pool.configure(replace(eviction, alpha=alpha))

    def put_on_probation(self, node: Any, req: Any) -> None:
        """A state is cached that goes when the request ends, unless another one uses it."""
        self.statistics.probation_states += 1
        self.on_probation[node.id] = node
        req.marconi_on_probation = [*getattr(req, "marconi_on_probation", ()), node]

    def end_probation(self, req: Any) -> list[Any]:
        """Return the nodes that no other request has used when one ends, below which more is cached."""
        nodes = [
            node
            for node in getattr(req, "marconi_on_probation", ())
            if self.on_probation.pop(node.id, None) is not None
        ]
        req.marconi_on_probation = []
        return [node for node in nodes if node.children]

    # Statistics

    def marconi_state(self) -> dict[str, Any]:
        """Return settings and counts as plain values, for /server_info."""
        state = {"settings": self.settings.to_dict(), **self.counts()}
        if self.tuner is not None:
            state["tuner"]["history"] = [
                {"request": t["request"], "alpha": t["alpha"]} for t in self.tuner.history
            ]
        return state

    def counts(self) -> dict[str, Any]:
        """Return what is counted and what is cached, as plain values."""
        cache: Any = self
        counts = {
            "token_hit_rate": self.statistics.token_hit_rate,
            **vars(self.statistics),
            "cached_tokens": cache.full_evictable_size() + cache.full_protected_size(),
            "cached_states": cache.mamba_evictable_size() + cache.mamba_protected_size(),
        }
        if self.tuner is not None:
            counts["tuner"] = {"status": self.tuner.status}
            counts |= {f"shadow_{name}": count for name, count in self.tuner.shadow.items()}
        if self.two_pool is not None:
            counts |= {
                "alpha": self.two_pool.settings.alpha,
                "cached_nodes": self.two_pool.cached_nodes,
                "evictions": {
                    f"{pool}/{kind}": count
                    for (pool, kind), count in sorted(self.two_pool.evictions.items())
                },
            }
        return counts

    # What happens to the tree, in the policy's numbers

    def number(self, node: Any) -> int:
        """Return what the policy calls a node of SGLang's tree."""
        return ROOT if node is self.root_node else self._numbers[node.id]

    def node(self, number: int) -> Any:
        """Return the node of SGLang's tree that the policy calls so."""
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


def publish_nothing() -> None:
    """Leave metrics alone: there are none."""
