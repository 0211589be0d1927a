"""Device memory of a state and of a KV token, from what a server says when it starts.

SGLang logs the sizes of its pools in GiB with two decimals. Divided by the number of slots, that gives
the bytes of one state within about 0.05 % and of one KV token within 0.1 % on large pools; the bounds
are part of the result.
"""

import re
from typing import NamedTuple

from marconi_core.serving.errors import ServingError

GIB = 2**30
ROUNDING_GIB = 0.005  # of a size printed with two decimals

STATES = re.compile(
    r"Mamba Cache is allocated\. max_mamba_cache_size: (\d+), "
    r"conv_state size: ([\d.]+)GB, ssm_state size: ([\d.]+)GB"
)
KV = re.compile(
    r"KV Cache is allocated\. dtype: (\S+), #tokens: (\d+), "
    r"K size: ([\d.]+) GB, V size: ([\d.]+) GB"
)
# one more than usable in each pool: a slot for padding
PADDING_SLOTS = 1


class Bytes(NamedTuple):
    """A size and the bounds that rounding in the log leaves."""

    value: float
    low: float
    high: float


class PoolMemory(NamedTuple):
    """The two pools of a hybrid model's server.

    Attributes:
        states: SSM states that fit, all layers together one state.
        state: bytes of one state (recurrent and convolution part).
        kv_tokens: tokens whose keys and values fit.
        kv_token: bytes of one token's keys and values, all layers.
        kv_dtype: element type of the KV pool.
    """

    states: int
    state: Bytes
    kv_tokens: int
    kv_token: Bytes
    kv_dtype: str


def pool_memory(log: str) -> PoolMemory:
    """Read the pools' sizes from the text of a server's log.

    Raises:
        ServingError: the lines are not there: no hybrid model, or another version of SGLang.
    """
    states, kv = STATES.search(log), KV.search(log)
    if states is None or kv is None:
        missing = "'Mamba Cache is allocated'" if states is None else "'KV Cache is allocated'"
        raise ServingError(
            f"the server's log has no line {missing}: the model is not hybrid, or this is another "
            "version of SGLang than the reader of its log knows"
        )
    return PoolMemory(
        states=int(states[1]),
        state=_bytes(int(states[1]), float(states[2]), float(states[3])),
        kv_tokens=int(kv[2]),
        kv_token=_bytes(int(kv[2]), float(kv[3]), float(kv[4])),
        kv_dtype=kv[1],
    )


def _bytes(slots: int, *parts_gib: float) -> Bytes:
    total, rounding = sum(parts_gib) * GIB, len(parts_gib) * ROUNDING_GIB * GIB
    count = slots + PADDING_SLOTS
    return Bytes(total / count, (total - rounding) / count, (total + rounding) / count)
