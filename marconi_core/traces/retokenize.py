"""Traces in another model's vocabulary, with exactly the prefix structure that they had.

The unit is an edge of the trace's token tree: what lies between two points at which a prompt or an
output ends or two sequences part. Each edge is decoded and encoded by itself, so whatever was shared
stays shared, and nothing else comes to be: the new tree has the same nodes, only depths and tokens
differ. Two things need care.

An edge may begin or end within a character, where the old vocabulary spells it in bytes. Such bytes are
not text; each becomes the token of that byte.

Two edges that part may get the same first token, as their texts share some letters more. Then all but
one of them are *respelled*: they begin with another token that spells the beginning of the same text.
Where the vocabulary has none left, the first token is *replaced* by one that spells something else.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from marconi_core.traces.trace import Requests
from marconi_core.traces.tree import ROOT, PrefixTree, PrefixTreeBuilder
from marconi_core.traces.vocabulary import STRAY, Part, Vocabulary, as_text

AnyRequests = TypeVar("AnyRequests", bound=Requests)


@dataclass(frozen=True)
class Retokenization:
    """What re-encoding did to a trace.

    Attributes:
        segments: edges of the token tree, each encoded by itself.
        split_characters: segments that begin or end within a character.
        respelled: segments whose first token had to differ from the one a neighbour has.
        replaced: those of them for which no token was left that spells their text.
        input_tokens, output_tokens: over all requests, before and after.
    """

    segments: int
    split_characters: int
    respelled: int
    replaced: int
    input_tokens: tuple[int, int]
    output_tokens: tuple[int, int]

    def to_text(self) -> str:
        """Return a table for people."""
        rows = [
            ("input tokens", _change(self.input_tokens)),
            ("output tokens", _change(self.output_tokens)),
            ("segments", f"{self.segments:,}"),
            ("within a character", f"{self.split_characters:,}"),
            ("respelled / replaced", f"{self.respelled:,} / {self.replaced:,}"),
        ]
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def retokenize(
    requests: AnyRequests, source: Vocabulary, target: Vocabulary
) -> tuple[AnyRequests, Retokenization]:
    """Return a workload or trace in another vocabulary, and what that took.

    Args:
        source: the vocabulary that the trace is written in.
        target: a byte-level vocabulary.

    Raises:
        DataError: the trace has ids that `source` lacks, or `target` is not byte-level.
    """
    tree = requests.tree
    decoded = [_decode(tree, node, source) for node in range(1, len(tree))]
    edges = list(target.encode(decoded))
    respelled, replaced = _part_siblings(tree, decoded, edges, target)
    result = _with_edges(requests, edges)
    return result, Retokenization(
        segments=len(edges),
        split_characters=sum(map(_splits_a_character, decoded)),
        respelled=respelled,
        replaced=replaced,
        input_tokens=(int(requests.n_in.sum()), int(result.n_in.sum())),
        output_tokens=(int(requests.n_out.sum()), int(result.n_out.sum())),
    )


def _change(counts: tuple[int, int]) -> str:
    before, after = counts
    return f"{before:,} -> {after:,} ({after / max(before, 1):.3f})"


def _decode(tree: PrefixTree, node: int, source: Vocabulary) -> list[Part]:
    start, end = tree.edge_start[node : node + 2]
    parent = tree.parent[node]
    previous = None if parent == ROOT else int(tree.tokens[tree.edge_start[parent + 1] - 1])
    return source.parts(tree.tokens[start:end], previous)


def _splits_a_character(parts: Sequence[Part]) -> bool:
    """Whether a segment begins or ends with bytes that are not a whole character."""
    first, last = parts[0], parts[-1]
    return (isinstance(first, bytes) and bool(STRAY.match(as_text(first)[0]))) or (
        isinstance(last, bytes) and bool(STRAY.match(as_text(last)[-1]))
    )


def _part_siblings(
    tree: PrefixTree, decoded: Sequence[list[Part]], edges: list[list[int]], target: Vocabulary
) -> tuple[int, int]:
    """Give siblings different first tokens; return how many were respelled, and replaced."""
    children: dict[int, list[int]] = {}
    for node in range(1, len(tree)):
        children.setdefault(int(tree.parent[node]), []).append(node - 1)
    respelled = replaced = 0
    for siblings in children.values():
        taken = {edges[i][0] for i in siblings}
        if len(taken) == len(siblings):
            continue
        natural: set[int] = set()
        for i in sorted(siblings, key=lambda i: len(decoded[i][0])):  # the least choice first
            first = edges[i][0]
            if first not in natural:
                natural.add(first)
                continue
            respelled += 1
            spelling = _other_spelling(decoded[i], taken, target)
            if spelling is None:
                replaced += 1
                other = next(j for j in target.ids.values() if j not in taken)
                spelling = [other, *edges[i][1:]]
            edges[i] = spelling
            taken.add(spelling[0])
    return respelled, replaced


def _other_spelling(parts: Sequence[Part], taken: set[int], target: Vocabulary) -> list[int] | None:
    """Return a spelling that begins with a token not taken, as long as can be; None if none does."""
    head, *rest = parts
    if isinstance(head, str):
        return None
    for length in range(min(len(head), target.longest), 0, -1):
        first = target.ids.get(head[:length])
        if first is not None and first not in taken:
            remainder = [head[length:], *rest] if head[length:] else rest
            return [first, *next(iter(target.encode([remainder])))]
    return None


def _with_edges(requests: AnyRequests, edges: Sequence[Sequence[int]]) -> AnyRequests:
    """Return the requests with other tokens on the edges (of node 1, 2, ...) of their tree."""
    tree = requests.tree
    arrays = [np.empty(0, np.int32), *(np.array(edge, np.int32) for edge in edges)]
    depth = np.zeros(len(tree), np.int64)
    for node in range(1, len(tree)):
        depth[node] = depth[tree.parent[node]] + len(arrays[node])
    builder = PrefixTreeBuilder()
    handles = [
        builder.add(np.concatenate([arrays[i] for i in tree.path(out)]), mark=int(depth[prompt]))
        for prompt, out in zip(requests.in_node, requests.out_node, strict=True)
    ]
    rebuilt, node_of = builder.build()
    in_handle, out_handle = np.array(handles, np.int64).T
    return replace(requests, tree=rebuilt, in_node=node_of[in_handle], out_node=node_of[out_handle])
