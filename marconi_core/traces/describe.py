"""What a trace looks like: lengths, and how much of its prompts a cache could know already."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marconi_core.jit import compiled
from marconi_core.traces.trace import Trace

QUANTILES = (5, 25, 50, 75, 95, 100)


@dataclass(frozen=True)
class TraceSummary:
    """Numbers that characterise a trace.

    Attributes:
        sessions: sessions with at least one request.
        duration_s: time from the first arrival to the last, in seconds.
        input_quantiles: prompt length in tokens by percentile (100 is the maximum).
        output_quantiles: output length in tokens by percentile.
        shared_same_session: share of all prompt tokens that lie in the longest prefix of their
            prompt with which an earlier prompt plus output of the same session starts, 0 to 1.
        shared_other_session: the same for earlier requests of all other sessions.
    """

    requests: int
    sessions: int
    duration_s: float
    input_tokens: int
    output_tokens: int
    input_mean: float
    output_mean: float
    input_quantiles: dict[int, int]
    output_quantiles: dict[int, int]
    shared_same_session: float
    shared_other_session: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return asdict(self)

    def to_text(self) -> str:
        """Return a table for people."""
        rows = [
            ("requests", f"{self.requests:,}"),
            ("sessions", f"{self.sessions:,}"),
            ("duration", f"{self.duration_s:,.1f} s"),
            ("input tokens", f"{self.input_tokens:,}"),
            ("output tokens", f"{self.output_tokens:,}"),
            ("mean input / output", f"{self.input_mean:,.0f} / {self.output_mean:,.0f}"),
            ("input 5/25/50/75/95 %, max", _slashed(self.input_quantiles)),
            ("output 5/25/50/75/95 %, max", _slashed(self.output_quantiles)),
            ("prefix seen in the same session", f"{100 * self.shared_same_session:.1f} %"),
            ("prefix seen in another session", f"{100 * self.shared_other_session:.1f} %"),
        ]
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def describe(trace: Trace) -> TraceSummary:
    """Return the summary of a trace."""
    same, other = shared_prefixes(trace)
    inputs, outputs = trace.n_in, trace.n_out
    total = int(inputs.sum())
    return TraceSummary(
        requests=len(trace),
        sessions=len(np.unique(trace.session)),
        duration_s=float(trace.ts.max() - trace.ts.min()),
        input_tokens=total,
        output_tokens=int(outputs.sum()),
        input_mean=float(inputs.mean()),
        output_mean=float(outputs.mean()),
        input_quantiles=_quantiles(inputs),
        output_quantiles=_quantiles(outputs),
        shared_same_session=int(same.sum()) / total,
        shared_other_session=int(other.sum()) / total,
    )


def shared_prefixes(trace: Trace) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return int64[n] twice: tokens of each prompt seen earlier in its session, and in another one.

    The cache is unlimited: it holds all earlier prompts and outputs. Two sequences part at a node
    of the tree, so walking up from the prompt's node to the first node that was visited before
    gives the longest prefix.
    """
    tree = trace.tree
    by_session = np.argsort(trace.session, kind="stable")
    same = np.empty(len(trace), np.int64)
    same[by_session] = _seen_in_session(
        tree.parent,
        tree.depth,
        trace.session[by_session],
        trace.in_node[by_session],
        trace.out_node[by_session],
    )
    other = _seen_elsewhere(tree.parent, tree.depth, trace.session, trace.in_node, trace.out_node)
    return same, other


def _quantiles(lengths: NDArray[np.int64]) -> dict[int, int]:
    """Return the percentiles as whole tokens, rounded down."""
    return {
        q: int(value) for q, value in zip(QUANTILES, np.percentile(lengths, QUANTILES), strict=True)
    }


def _slashed(quantiles: dict[int, int]) -> str:
    return " / ".join(f"{value:,}" for value in quantiles.values())


@compiled
def _seen_in_session(parent, depth, session, in_node, out_node):  # type: ignore[no-untyped-def]
    """Requests come grouped by session; a node is stamped with the last session that visited it."""
    stamp = np.full(len(parent), -1, np.int32)
    seen = np.empty(len(session), np.int64)
    for i in range(len(session)):
        node = in_node[i]
        while node != 0 and stamp[node] != session[i]:
            node = parent[node]
        seen[i] = depth[node]
        node = out_node[i]
        while node != 0 and stamp[node] != session[i]:
            stamp[node] = session[i]
            node = parent[node]
    return seen


@compiled
def _seen_elsewhere(parent, depth, session, in_node, out_node):  # type: ignore[no-untyped-def]
    """A node remembers its first session and whether a second one came: that tells of any other."""
    first = np.full(len(parent), -1, np.int32)
    several = np.zeros(len(parent), np.bool_)
    seen = np.empty(len(session), np.int64)
    for i in range(len(session)):
        node = in_node[i]
        while node != 0 and not several[node] and (first[node] < 0 or first[node] == session[i]):
            node = parent[node]
        seen[i] = depth[node]
        node = out_node[i]
        while node != 0 and not several[node] and first[node] != session[i]:
            if first[node] < 0:
                first[node] = session[i]
            else:
                several[node] = True
            node = parent[node]
    return seen
