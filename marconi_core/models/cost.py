"""What every cost model answers: bytes of a token's KVs and of a state, FLOPs of a prefill.

The paper's formulas (`models.paper.PaperModel`) and the real geometry of a model
(`models.hybrid.HybridModel`) are cost models, so a policy takes either. In both, the FLOPs of
prefilling L tokens are a polynomial ``linear * L + square * L**2`` with integer coefficients: a
projection costs the same for every token, attention grows with the token's position. Policies in
compiled code can take the two integers and leave the classes behind.
"""

import operator
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from marconi_core.errors import ModelError

Tokens = TypeVar("Tokens", int, npt.NDArray[np.int64])
"""One number of tokens, or an integer array of them."""


class Polynomial(NamedTuple):
    """FLOPs of prefilling L tokens: ``linear * L + square * L**2``.

    Attributes:
        linear: FLOPs per token, whatever its position.
        square: FLOPs per token and token of its prefix, summed over the prefix.
    """

    linear: int
    square: int

    @classmethod
    def through(cls, first: int, second: int) -> "Polynomial":
        """Return the polynomial with the values `first` at L = 1 and `second` at L = 2."""
        square = second // 2 - first
        return cls(first - square, square)

    def at(self, tokens: Any) -> Any:
        """Return the exact value at one length (an integer) or at many (an integer array).

        Raises:
            ModelError: a length is negative or no integer, or a value of an array does not fit 64
                bits.
        """
        if not isinstance(tokens, np.ndarray):
            try:
                length = operator.index(tokens)
            except TypeError:
                raise ModelError(f"a number of tokens is an integer, not {tokens!r}") from None
            if length < 0:
                raise ModelError(f"a number of tokens cannot be negative: {length}")
            return length * (self.linear + self.square * length)
        if tokens.dtype.kind not in "iu":
            raise ModelError(f"numbers of tokens are integers, not an array of {tokens.dtype}")
        if tokens.min(initial=0) < 0:
            raise ModelError(f"a number of tokens cannot be negative: {tokens.min()}")
        longest = int(tokens.max(initial=0))
        if self.at(longest) > np.iinfo(np.int64).max:
            raise ModelError(
                f"the FLOPs of {longest:,} tokens do not fit 64 bits; pass Python integers, one by "
                "one, for exact values"
            )
        lengths = tokens.astype(np.int64, copy=False)
        return lengths * (self.linear + self.square * lengths)

    def plus(self, other: "Polynomial") -> "Polynomial":
        """Return the FLOPs of both together."""
        return Polynomial(self.linear + other.linear, self.square + other.square)


class CostModel(ABC):
    """Cache bytes and prefill FLOPs of a model; all values are exact integers."""

    @property
    @abstractmethod
    def kv_bytes_per_token(self) -> int:
        """Bytes of one token's keys and values, all attention layers."""

    @property
    @abstractmethod
    def state_bytes(self) -> int:
        """Bytes of one checkpoint: the recurrent states of all layers after one token."""

    @property
    @abstractmethod
    def prefill_by_kind(self) -> Mapping[str, Polynomial]:
        """FLOPs of a prefill per kind of layer, all layers of the kind together."""

    @cached_property
    def prefill(self) -> Polynomial:
        """FLOPs of a prefill through all layers."""
        total = Polynomial(0, 0)
        for polynomial in self.prefill_by_kind.values():
            total = total.plus(polynomial)
        return total

    def flops(self, tokens: Tokens) -> Tokens:
        """Return the FLOPs of prefilling the first `tokens` tokens through all layers.

        Raises:
            ModelError: see `Polynomial.at`.
        """
        result: Tokens = self.prefill.at(tokens)
        return result

    def flops_between(self, start: Tokens, end: Tokens) -> Tokens:
        """Return the FLOPs of prefilling tokens `start` to `end` with the first `start` cached.

        Raises:
            ModelError: see `Polynomial.at`.
        """
        return self.flops(end) - self.flops(start)

    def breakdown(self, tokens: Tokens) -> dict[str, Tokens]:
        """Return `flops` per kind of layer.

        Raises:
            ModelError: see `Polynomial.at`.
        """
        return {kind: prefill.at(tokens) for kind, prefill in self.prefill_by_kind.items()}
