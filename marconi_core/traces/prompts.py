"""What is sent for each request: prompts with the prefix structure of the trace, whoever wrote them.

A server's replies differ from the recorded outputs. They take their place, in every prompt that
contains them: the trace is a token tree, an output is a path of edges in it, and the reply's tokens
become the tokens of these edges. So lengths and structure stay those of the trace, also for agents
whose later prompts drop a part of their history.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from marconi_core.traces.trace import Trace

Tokens = NDArray[np.int32]


class Prompts:
    """The prompts of a trace, with replies in the place of recorded outputs.

    Attributes:
        repeated: replies to a prompt that another request had as well, or whose place an earlier
            reply had taken. A greedy server may give both the same reply, where the trace has two.
    """

    def __init__(self, trace: Trace) -> None:
        self._trace, self._n_in, self._n_out = trace, trace.n_in, trace.n_out
        self._level, self._edge_start = trace.tree.level, trace.tree.edge_start
        self._replies: dict[int, Tokens] = {}  # by node, the new tokens of its edge
        self._texts: dict[int, str] = {}  # by node, the same or the recorded ones as JSON
        self._answered: set[int] = set()  # nodes at which their prompts end
        self.repeated = 0

    def tokens(self, i: int) -> Tokens:
        """Return the prompt of request `i`."""
        return np.concatenate([self._edge(node) for node in self._prompt_path(i)])

    def text(self, i: int) -> str:
        """Return the prompt as the inside of a JSON list.

        Each edge is written once: a whole prompt takes milliseconds, in which no other reply
        would be timed.
        """
        return ",".join([self._text(node) for node in self._prompt_path(i)])

    def replace(self, i: int, reply: ArrayLike) -> None:
        """Put a reply in the place of the recorded output of request `i`, of equal length."""
        tree, trace = self._trace.tree, self._trace
        tokens = np.asarray(reply, np.int32)
        assert len(tokens) == self._n_out[i]
        start = int(self._n_in[i])
        repeated = int(trace.in_node[i]) in self._answered
        self._answered.add(int(trace.in_node[i]))
        for node in self._path(trace.out_node[i])[self._level[trace.in_node[i]] :]:
            if node in self._replies:
                repeated = True
                continue
            begin, end = int(tree.depth[tree.parent[node]]), int(tree.depth[node])
            self._replies[node] = tokens[begin - start : end - start]
            self._texts.pop(node, None)
        self.repeated += repeated

    def _prompt_path(self, i: int) -> list[int]:
        return self._path(self._trace.in_node[i])

    def _path(self, node: int) -> list[int]:
        """Return the nodes below the root, down to `node`."""
        path: list[int] = self._trace.tree.path(node)[1:].tolist()
        return path

    def _edge(self, node: int) -> Tokens:
        recorded = self._trace.tree.tokens[self._edge_start[node] : self._edge_start[node + 1]]
        return self._replies.get(node, recorded)

    def _text(self, node: int) -> str:
        if node not in self._texts:
            self._texts[node] = ",".join(map(str, self._edge(node).tolist()))
        return self._texts[node]
