"""The model and its memory: a rolling hash of all tokens so far.

Written into the request's state slot and beside each of its KV slots, it makes every state and every
KV checkable against the tokens that it is supposed to stand for.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from marconi_core.jit import compiled

MODULUS = 16_777_213  # the largest prime that float32 holds exactly

Tokens = NDArray[np.int64]


class WrongMemoryError(AssertionError):
    """A state or KV does not belong to the tokens it is used for."""


@compiled
def running_hashes(tokens: Tokens, start: int) -> Tokens:
    """Return the rolling hash after each token, continued from `start`."""
    hashes = np.empty_like(tokens)
    for i in range(len(tokens)):
        start = (start * 31 + tokens[i] + 7) % MODULUS
        hashes[i] = start
    return hashes


def hash_of(tokens: Sequence[int] | Tokens, start: int = 0) -> int:
    """Return the rolling hash after all tokens, continued from `start`."""
    if len(tokens) == 0:
        return start
    return int(running_hashes(np.asarray(tokens, np.int64), start)[-1])


class Memory:
    """State slots (a real pool's tensor) and what stands for the content of KV slots."""

    def __init__(self, states: torch.Tensor, kv_tokens: int) -> None:
        """Start with KVs that belong to no tokens.

        Args:
            states: recurrent states, [layer, slot, ...].
            kv_tokens: size of the KV pool.
        """
        self._states = states
        self._kv_hash = np.full(kv_tokens + 1, -1)

    def state(self, slot: Any) -> int:
        return int(self._states[0, int(slot), 0, 0, 0].item())

    def set_state(self, slot: Any, value: int) -> None:
        self._states[:, int(slot)] = value

    def run(self, slot: Any, kv_slots: torch.Tensor, tokens: Sequence[int] | Tokens) -> None:
        """Run tokens through the model, from the state in a slot; write their KVs and the state."""
        hashes = running_hashes(np.asarray(tokens, np.int64), self.state(slot))
        self._kv_hash[kv_slots.numpy()] = hashes
        self.set_state(slot, int(hashes[-1]))

    def check_state(self, slot: Any, tokens: Sequence[int] | Tokens, what: str) -> None:
        if self.state(slot) != hash_of(tokens):
            raise WrongMemoryError(f"{what}: wrong state after {len(tokens)} tokens")

    def check_kvs(self, kv_slots: torch.Tensor, tokens: Sequence[int] | Tokens, what: str) -> None:
        """Check the KVs of the last ``len(kv_slots)`` tokens."""
        hashes = running_hashes(np.asarray(tokens, np.int64), 0)
        if (self._kv_hash[kv_slots.numpy()] != hashes[len(tokens) - len(kv_slots) :]).any():
            raise WrongMemoryError(f"{what}: wrong KVs")
