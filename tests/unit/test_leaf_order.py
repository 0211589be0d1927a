"""Places of leaves, kept up to date, against a walk through the tree."""

from collections.abc import Iterator

from hypothesis import given, settings
from hypothesis import strategies as st

from marconi_core.policies.siblings import ABSENT, append_child, remove_child, replace_child
from marconi_core.sim.leaf_order import (
    LEAVES,
    add_leaf,
    empty_order,
    number_anew,
    place_of,
    remove_leaf,
)
from marconi_core.sim.radix_tree import empty_cache
from marconi_core.sim.records import Records
from marconi_core.traces.tree import ROOT


def leaves(cache: Records, node: int = ROOT) -> Iterator[int]:
    """Yield the leaves in preorder."""
    child = cache[node]["first_child"]
    if child == ABSENT:
        yield node
    while child != ABSENT:
        yield from leaves(cache, child)
        child = cache[child]["next_sibling"]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["add", "add", "remove", "split", "number"]), st.integers(0, 99)),
        max_size=120,
    )
)
def test_places_after_any_change(changes: list[tuple[str, int]]) -> None:
    nodes = len(changes) + 1
    cache, order = empty_cache(nodes), empty_order(nodes)
    cached, numbered = [ROOT], {ROOT}  # what takes the place of a numbered leaf has its number
    for new, (change, choice) in enumerate(changes, start=1):
        node = cached[choice % len(cached)]
        if change == "add":
            append_child(cache, node, new)
            add_leaf(order, cache, new)
            cached.append(new)
            if node in numbered and cache[node]["children"] == 1:
                numbered = numbered - {node} | {new}
        elif change == "split" and node != ROOT:
            replace_child(cache, node, new)
            append_child(cache, new, node)
            cached.append(new)
        elif change == "number":
            number_anew(order, cache)
            numbered = set(leaves(cache))
        elif change == "remove" and node != ROOT and cache[node]["children"] == 0:
            remove_child(cache, node)
            remove_leaf(order, cache, node)
            cached.remove(node)
            parent = int(cache[node]["parent"])
            if node in numbered and cache[parent]["children"] == 0:
                numbered.add(parent)
            numbered.discard(node)
        found = list(leaves(cache))
        assert order.totals[LEAVES] == len(found)
        for before, leaf in enumerate(found):
            assert (order.number[leaf] >= 0) == (leaf in numbered)
            if leaf in numbered:
                assert place_of(order, leaf) == before
