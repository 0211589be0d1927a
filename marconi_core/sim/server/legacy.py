"""The same for SGLang 0.5.6.post2 (`MambaRadixCache`), which differs from 0.5.16 in four points.

* A hit, and an insertion, make all states on the path the most recently used ones, not only the last.
* A leaf takes the KVs above it along that no state and no other leaf keep.
* One free state slot is enough to start a prefill.
* A request may use one KV token more.
"""

from marconi_core.sim.server.engine import ServerSimulator
from marconi_core.sim.server.policy import StockEviction
from marconi_core.sim.server.tree import Node, is_free_leaf


class LegacyEviction(StockEviction):
    """SGLang 0.5.6.post2's own eviction.

    It keeps two lists, of KVs and of states. Both are in the order of the nodes' last access, which
    its `sanity_check` insists on.
    """

    def evict(self, tokens: int, states: int) -> tuple[int, int]:
        freed_tokens = freed_states = 0
        while freed_tokens < tokens and self.tree.leaves:
            more_tokens, more_states = self._drop_leaf(min(self.tree.leaves, key=last_access))
            freed_tokens, freed_states = freed_tokens + more_tokens, freed_states + more_states
        for node in sorted(self.tree.states, key=last_access) if freed_states < states else ():
            if freed_states >= states:
                break
            if node.state_locks:
                continue
            if node.children:
                self.tree.drop_state(node)
                freed_states += 1
            else:
                more_tokens, more_states = self._drop_leaf(node)
                freed_tokens, freed_states = freed_tokens + more_tokens, freed_states + more_states
        return freed_tokens, freed_states

    def _drop_leaf(self, node: Node) -> tuple[int, int]:
        """Evict a leaf, then the KVs above it that lead to no state any more."""
        parent = node.parent
        freed_tokens, freed_states = self.tree.drop_leaf(node)
        while parent is not None and is_free_leaf(parent) and not parent.state:
            above = parent.parent
            freed_tokens += self.tree.drop_leaf(parent)[0]
            parent = above
        return freed_tokens, freed_states


class LegacyServerSimulator(ServerSimulator):
    """Serves requests one after the other as SGLang 0.5.6.post2 does."""

    reserved_tokens = 1

    def flush(self) -> None:
        super().flush()
        if self.policy.eviction is None:
            self.eviction = LegacyEviction()
            self._tree = self.eviction.tree

    def _evict(self, tokens: int = 0, states: int = 0) -> None:
        if tokens or not self.free_states:
            super()._evict(tokens, min(states, 1))


def last_access(node: Node) -> float:
    """Return when a node was last used, as the order of eviction counts it."""
    return node.last_access
