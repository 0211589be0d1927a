"""Compiled traces: requests as node ids of one token tree.

A `Workload` holds a data set's requests before they have arrival times; an arrival process turns it
into a `Trace`. Arrival rates only permute the requests, so all rates share one compiled tree.
"""

import hashlib
import json
import math
import os
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from marconi_core.errors import TraceError
from marconi_core.traces.compiled import CompiledFile, opened, write_arrays
from marconi_core.traces.tree import PrefixTree, PrefixTreeBuilder

Tokens = Sequence[int] | NDArray[np.integer]
SessionId = int | str

FORMAT = 1  # of the compiled files; raise it when the arrays change their meaning
MAX_TURN = 2**31 - 1
MAX_LABEL = 2**63 - 1  # of sessions, where labels are numbers


@dataclass(frozen=True, slots=True)
class Request:
    """One request of a trace file: the prompt, the recorded output, and when it arrives.

    Attributes:
        session_id: label of the conversation.
        turn_id: position of the request in its conversation, from 0.
        ts: arrival time in seconds.
    """

    session_id: SessionId
    turn_id: int
    ts: float
    input_tokens: Tokens
    output_tokens: Tokens


@dataclass(frozen=True, slots=True)
class TurnTokens:
    """One request of a session before it has an arrival time.

    Attributes:
        user_words: spaces in the user's message, which drive the typing time.
        recorded_ts: arrival time that the data set gives, in seconds; NaN if it gives none.
    """

    input_tokens: Tokens
    output_tokens: Tokens
    user_words: int = 0
    recorded_ts: float = math.nan


@dataclass(frozen=True, slots=True)
class SessionTokens:
    """The requests of one conversation, in order.

    Attributes:
        drawn_turns: turns for which a think time is drawn: all requests, plus the turn at which a
            length limit ended the session (the paper's generator draws before it checks).
    """

    session_id: SessionId
    turns: Sequence[TurnTokens]
    drawn_turns: int


@dataclass(frozen=True)
class Requests:
    """What a workload and a trace have in common.

    Attributes:
        tree: the union tree of all sequences.
        session_ids: labels of the sessions.
        session: int32[n]; index into `session_ids`.
        turn: int32[n].
        in_node: int32[n]; tree node at which the prompt ends.
        out_node: int32[n]; tree node at which prompt plus output ends.
    """

    tree: PrefixTree
    session_ids: tuple[SessionId, ...]
    session: NDArray[np.int32]
    turn: NDArray[np.int32]
    in_node: NDArray[np.int32]
    out_node: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.session)

    @property
    def n_in(self) -> NDArray[np.int64]:
        """int64[n]; prompt tokens of each request."""
        return self.tree.depth[self.in_node]

    @property
    def n_out(self) -> NDArray[np.int64]:
        """int64[n]; output tokens of each request."""
        return self.tree.depth[self.out_node] - self.n_in

    def input_tokens(self, i: int) -> NDArray[np.int32]:
        """Return the prompt of request `i`."""
        return self.tree.sequence(self.in_node[i])

    def output_tokens(self, i: int) -> NDArray[np.int32]:
        """Return the recorded output of request `i`."""
        return self.tree.sequence(self.out_node[i], start=int(self.n_in[i]))

    def digest(self) -> str:
        """Return a SHA-256 over labels, order, times and tokens: equal iff the requests are equal."""
        labels = [self.session_ids[i] for i in self.session]
        content = self._arrays() | {"session_ids": np.array(json.dumps(labels))}
        del content["session"]  # numbers of the labels, in order of appearance
        digest = hashlib.sha256()
        for name, values in content.items():
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(values).tobytes())
        return digest.hexdigest()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the compiled form as .npz: atomic, and the same bytes for the same content."""
        write_arrays(path, _label(type(self)), self._arrays())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a compiled file.

        Raises:
            TraceError: the file is missing, damaged, or another kind or version of file.
        """
        with opened(path, _label(cls)) as file:
            requests = cls(**cls._fields(file))
            requests.check()
        return requests

    def check(self) -> None:
        """Check what everything else relies on.

        Raises:
            ValueError: names the field that no compiled requests can have.
        """
        self.tree.check()
        _same_length(self, "session", ("turn", "in_node", "out_node"))
        if not len(self):
            raise ValueError("session: no requests")
        _in_range("session", self.session, 0, len(self.session_ids))
        _in_range("turn", self.turn, 0, MAX_TURN + 1)
        _in_range("in_node", self.in_node, 1, len(self.tree))
        ends = self.tree.subtree_end[self.in_node]
        if not np.all((self.in_node <= self.out_node) & (self.out_node < ends)):
            raise ValueError("out_node: a request does not begin with its prompt")

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return {
            "parent": self.tree.parent,
            "depth": self.tree.depth,
            "tokens": self.tree.tokens,
            "session_ids": np.array(json.dumps(self.session_ids)),
            "session": self.session,
            "turn": self.turn,
            "in_node": self.in_node,
            "out_node": self.out_node,
        }

    @classmethod
    def _fields(cls, file: CompiledFile) -> dict[str, Any]:
        tree = PrefixTree(
            file.array("parent", np.int32),
            file.array("depth", np.int64),
            file.array("tokens", np.int32),
        )
        columns = {
            name: file.array(name, np.int32) for name in ("session", "turn", "in_node", "out_node")
        }
        return {"tree": tree, "session_ids": _session_ids(file), **columns}


@dataclass(frozen=True)
class Trace(Requests):
    """Requests in replay order.

    Attributes:
        ts: float64[n]; arrival times in seconds (replay follows the order, not the times).
    """

    ts: NDArray[np.float64]

    @classmethod
    def build(cls, requests: Iterable[Request]) -> "Trace":
        """Compile requests, in the order given.

        Raises:
            TraceError: there is no request.
        """
        columns = _Columns()
        times = array("d")
        for request in requests:
            columns.add(
                request.session_id, request.turn_id, request.input_tokens, request.output_tokens
            )
            times.append(request.ts)
        return cls(**columns.compile("the trace"), ts=np.array(times, np.float64))

    def head(self, requests: int) -> "Trace":
        """Return the first requests, compiled anew: equal for all traces that begin with them."""
        return Trace.build(
            Request(
                self.session_ids[self.session[i]],
                int(self.turn[i]),
                float(self.ts[i]),
                self.input_tokens(i),
                self.output_tokens(i),
            )
            for i in range(min(requests, len(self)))
        )

    def check(self) -> None:
        super().check()
        _same_length(self, "session", ("ts",))
        _check_times("ts", self.ts)

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return super()._arrays() | {"ts": self.ts}

    @classmethod
    def _fields(cls, file: CompiledFile) -> dict[str, Any]:
        return super()._fields(file) | {"ts": file.array("ts", np.float64)}


@dataclass(frozen=True)
class Workload(Requests):
    """The requests of a data set in session-major order, before an arrival process orders them.

    Attributes:
        user_words: int32[n]; see `TurnTokens`.
        recorded_ts: float64[n]; see `TurnTokens`.
        drawn_turns: int32[sessions]; see `SessionTokens`.
    """

    user_words: NDArray[np.int32]
    recorded_ts: NDArray[np.float64]
    drawn_turns: NDArray[np.int32]

    @classmethod
    def build(cls, sessions: Iterable[SessionTokens], name: str = "the workload") -> "Workload":
        """Compile sessions, in the order given; `name` is for messages.

        Raises:
            TraceError: there is no request.
        """
        columns = _Columns()
        words, times, drawn = array("i"), array("d"), array("i")
        for session in sessions:
            columns.label(session.session_id)
            drawn.append(session.drawn_turns)
            for turn_id, turn in enumerate(session.turns):
                columns.add(session.session_id, turn_id, turn.input_tokens, turn.output_tokens)
                words.append(turn.user_words)
                times.append(turn.recorded_ts)
        return cls(
            **columns.compile(name),
            user_words=np.array(words, np.int32),
            recorded_ts=np.array(times, np.float64),
            drawn_turns=np.array(drawn, np.int32),
        )

    def schedule(self, ts: NDArray[np.float64]) -> Trace:
        """Return the trace in which request i arrives at ``ts[i]`` seconds; ties keep their order."""
        order = np.argsort(ts, kind="stable")
        return Trace(
            tree=self.tree,
            session_ids=self.session_ids,
            session=self.session[order],
            turn=self.turn[order],
            in_node=self.in_node[order],
            out_node=self.out_node[order],
            ts=np.asarray(ts, np.float64)[order],
        )

    def check(self) -> None:
        super().check()
        _same_length(self, "session", ("user_words", "recorded_ts"))
        _in_range("user_words", self.user_words, 0, 2**31)
        _check_times("recorded_ts", self.recorded_ts[~np.isnan(self.recorded_ts)])
        if np.any(np.diff(self.session) < 0):
            raise ValueError("session: not in order")
        turns = np.bincount(self.session, minlength=len(self.session_ids))
        if len(self.drawn_turns) != len(turns):
            raise ValueError(f"drawn_turns: {len(self.drawn_turns)} for {len(turns)} sessions")
        if not np.all((turns <= self.drawn_turns) & (self.drawn_turns <= turns + 1)):
            raise ValueError("drawn_turns: neither the turns of a session nor one more")

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return super()._arrays() | {
            "user_words": self.user_words,
            "recorded_ts": self.recorded_ts,
            "drawn_turns": self.drawn_turns,
        }

    @classmethod
    def _fields(cls, file: CompiledFile) -> dict[str, Any]:
        return super()._fields(file) | {
            "user_words": file.array("user_words", np.int32),
            "recorded_ts": file.array("recorded_ts", np.float64),
            "drawn_turns": file.array("drawn_turns", np.int32),
        }


class _Columns:
    """Collects requests into the token tree and one array per column."""

    def __init__(self) -> None:
        self._builder = PrefixTreeBuilder()
        self._labels: dict[SessionId, int] = {}
        self._session, self._turn, self._in, self._out = (array("i") for _ in range(4))

    def label(self, session_id: SessionId) -> int:
        return self._labels.setdefault(session_id, len(self._labels))

    def add(
        self, session_id: SessionId, turn: int, input_tokens: Tokens, output_tokens: Tokens
    ) -> None:
        sequence = np.concatenate(
            (np.asarray(input_tokens, np.int32), np.asarray(output_tokens, np.int32))
        )
        in_handle, out_handle = self._builder.add(sequence, mark=len(input_tokens))
        self._session.append(self.label(session_id))
        self._turn.append(turn)
        self._in.append(in_handle)
        self._out.append(out_handle)

    def compile(self, name: str) -> dict[str, Any]:
        if not self._session:
            raise TraceError(f"{name} has no requests; at least one is needed")
        tree, node_of = self._builder.build()
        return {
            "tree": tree,
            "session_ids": tuple(self._labels),
            "session": np.array(self._session, np.int32),
            "turn": np.array(self._turn, np.int32),
            "in_node": node_of[np.array(self._in, np.int32)],
            "out_node": node_of[np.array(self._out, np.int32)],
        }


def _label(cls: type[Requests]) -> str:
    return f"marconi {cls.__name__.lower()} {FORMAT}"


def _session_ids(file: CompiledFile) -> tuple[SessionId, ...]:
    found = json.loads(file.text("session_ids"))
    if not isinstance(found, list) or not all(type(label) in (int, str) for label in found):
        raise ValueError("session_ids: not a list of labels")
    if len(set(found)) != len(found):
        raise ValueError("session_ids: not all different")
    return tuple(found)


def _same_length(requests: Requests, name: str, others: Iterable[str]) -> None:
    expected = len(getattr(requests, name))
    for other in others:
        if (found := len(getattr(requests, other))) != expected:
            raise ValueError(f"{other}: {found} entries, but {expected} of {name}")


def _in_range(name: str, values: NDArray[np.int32], low: int, high: int) -> None:
    if len(values) and not (low <= values.min() and values.max() < high):
        raise ValueError(f"{name}: not all of {low}..{high - 1}")


def _check_times(name: str, ts: NDArray[np.float64]) -> None:
    if not np.all(np.isfinite(ts) & (ts >= 0)):
        raise ValueError(f"{name}: a time is negative or no number")
