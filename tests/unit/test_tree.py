"""The union tree against its definition, on random sequences."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from marconi_core.traces.tree import ROOT, PrefixTree, PrefixTreeBuilder
from tests.naive import common

sequences = st.lists(
    st.tuples(st.lists(st.integers(0, 2), min_size=1, max_size=12), st.integers(1, 12)),
    min_size=1,
    max_size=25,
)


def build(items: list[tuple[list[int], int]]) -> tuple[PrefixTree, list[tuple[int, int]]]:
    builder = PrefixTreeBuilder()
    handles = [builder.add(tokens, mark=min(mark, len(tokens))) for tokens, mark in items]
    tree, node_of = builder.build()
    return tree, [(int(node_of[inner]), int(node_of[end])) for inner, end in handles]


@settings(max_examples=200, deadline=None)
@given(sequences)
def test_nodes_spell_the_sequences_and_their_marks(items: list[tuple[list[int], int]]) -> None:
    tree, ends = build(items)
    for (tokens, mark), (inner, end) in zip(items, ends, strict=True):
        assert tree.sequence(end).tolist() == tokens
        assert tree.sequence(inner).tolist() == tokens[:mark]
        assert tree.path(end)[0] == ROOT and inner in tree.path(end)


@settings(max_examples=200, deadline=None)
@given(sequences)
def test_sequences_part_at_nodes(items: list[tuple[list[int], int]]) -> None:
    tree, ends = build(items)
    for (a, _), (_, end_a) in zip(items, ends, strict=True):
        for (b, _), (_, end_b) in zip(items, ends, strict=True):
            shared = set(tree.path(end_a).tolist()) & set(tree.path(end_b).tolist())
            assert max(tree.depth[node] for node in shared) == common(a, b)


@settings(max_examples=200, deadline=None)
@given(sequences)
def test_ids_are_preorder_and_minimal(items: list[tuple[list[int], int]]) -> None:
    tree, ends = build(items)
    children = np.bincount(tree.parent[1:], minlength=len(tree))
    for node in range(len(tree)):
        inside = [d for d in range(len(tree)) if node in tree.path(d)]
        assert inside == list(range(node, tree.subtree_end[node]))
        assert tree.level[node] == len(tree.path(node)) - 1
        is_end = any(node in pair for pair in ends)
        assert node == ROOT or is_end or children[node] > 1, "a node without a reason"


@settings(max_examples=100, deadline=None)
@given(sequences, st.randoms(use_true_random=False))
def test_the_order_of_insertion_does_not_matter(items: list[tuple[list[int], int]], random) -> None:  # type: ignore[no-untyped-def]
    shuffled = list(items)
    random.shuffle(shuffled)
    (one, _), (other, _) = build(items), build(shuffled)
    assert (one.parent == other.parent).all()
    assert (one.depth == other.depth).all()
    assert (one.tokens == other.tokens).all()


def test_a_long_sequence_grows_the_pool() -> None:
    long = list(range(200_000))
    tree, ends = build([(long, 100_000), (long[:150_000] + [7], 3)])
    assert tree.sequence(ends[0][1]).tolist() == long
    assert len(tree.tokens) == 200_001
