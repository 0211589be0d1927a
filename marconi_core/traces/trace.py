"""Compiled traces: requests as node ids of one token tree.

A `Workload` holds a data set's requests before they have arrival times; an arrival process turns it
into a `Trace`. Arrival rates only permute the requests, so all rates share one compiled tree.
"""

import hashlib
import json
import os
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from marconi_core.errors import TraceError
from marconi_core.files import atomic_path
from marconi_core.traces.tree import PrefixTree, PrefixTreeBuilder

Tokens = Sequence[int] | NDArray[np.integer]
SessionId = int | str

FORMAT = 1  # of the compiled files; raise it when the arrays change their meaning


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
    """

    input_tokens: Tokens
    output_tokens: Tokens
    user_words: int = 0


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
        for name, array in content.items():
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the compiled form as .npz: atomic, and the same bytes for the same content."""
        with atomic_path(path) as partial, open(partial, "wb") as file:
            np.savez(file, allow_pickle=False, format=_label(type(self)), **self._arrays())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a compiled file.

        Raises:
            TraceError: the file is missing, damaged, or another kind or version of file.
        """
        return cls._from_arrays(_load(path, _label(cls)))

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
    def _from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        fields = dict(arrays)
        tree = PrefixTree(fields.pop("parent"), fields.pop("depth"), fields.pop("tokens"))
        session_ids = tuple(json.loads(str(fields.pop("session_ids"))))
        return cls(tree=tree, session_ids=session_ids, **fields)


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
        times = []
        for request in requests:
            columns.add(
                request.session_id, request.turn_id, request.input_tokens, request.output_tokens
            )
            times.append(request.ts)
        return cls(**columns.compile(), ts=np.array(times, np.float64))

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

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return super()._arrays() | {"ts": self.ts}


@dataclass(frozen=True)
class Workload(Requests):
    """The requests of a data set in session-major order, without arrival times.

    Attributes:
        user_words: int32[n]; see `TurnTokens`.
        drawn_turns: int32[sessions]; see `SessionTokens`.
    """

    user_words: NDArray[np.int32]
    drawn_turns: NDArray[np.int32]

    @classmethod
    def build(cls, sessions: Iterable[SessionTokens]) -> "Workload":
        """Compile sessions, in the order given.

        Raises:
            TraceError: there is no request.
        """
        columns = _Columns()
        words, drawn = [], []
        for session in sessions:
            columns.label(session.session_id)
            drawn.append(session.drawn_turns)
            for turn_id, turn in enumerate(session.turns):
                columns.add(session.session_id, turn_id, turn.input_tokens, turn.output_tokens)
                words.append(turn.user_words)
        return cls(
            **columns.compile(),
            user_words=np.array(words, np.int32),
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

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return super()._arrays() | {"user_words": self.user_words, "drawn_turns": self.drawn_turns}


class _Columns:
    """Collects requests into the token tree and one list per column."""

    def __init__(self) -> None:
        self._builder = PrefixTreeBuilder()
        self._labels: dict[SessionId, int] = {}
        self._rows: list[tuple[int, int, int, int]] = []

    def label(self, session_id: SessionId) -> int:
        return self._labels.setdefault(session_id, len(self._labels))

    def add(
        self, session_id: SessionId, turn: int, input_tokens: Tokens, output_tokens: Tokens
    ) -> None:
        sequence = np.concatenate(
            (np.asarray(input_tokens, np.int32), np.asarray(output_tokens, np.int32))
        )
        in_handle, out_handle = self._builder.add(sequence, mark=len(input_tokens))
        self._rows.append((self.label(session_id), turn, in_handle, out_handle))

    def compile(self) -> dict[str, Any]:
        if not self._rows:
            raise TraceError("the trace has no requests; a trace needs at least one")
        tree, node_of = self._builder.build()
        session, turn, in_handle, out_handle = np.array(self._rows, np.int32).T.copy()
        return {
            "tree": tree,
            "session_ids": tuple(self._labels),
            "session": session,
            "turn": turn,
            "in_node": node_of[in_handle],
            "out_node": node_of[out_handle],
        }


def _label(cls: type[Requests]) -> str:
    return f"marconi {cls.__name__.lower()} {FORMAT}"


def _load(path: str | os.PathLike[str], label: str) -> dict[str, NDArray[Any]]:
    if not Path(path).is_file():
        raise TraceError(f"{path}: no such file")
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise TraceError(
            f"{path}: not a compiled file, or a damaged one ({error}); compile it again"
        ) from error
    found = str(arrays.pop("format", "unknown"))
    if found != label:
        raise TraceError(f"{path}: holds '{found}', expected '{label}'; compile it again")
    return arrays
