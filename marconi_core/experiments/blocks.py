"""Figure 3a: how few of the blocks that vLLM+ keeps are ever used, above all of their states."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from marconi_core.experiments.base import Experiment, Setting, typing
from marconi_core.sim.simulation import Simulator
from marconi_core.traces.arrivals import Arrivals
from marconi_core.traces.trace import Trace
from marconi_core.traces.tree import ROOT

BLOCKS = (32, 64, 128)
CAPACITY = 5e9


def reuse(setting: Setting, arrivals: tuple[Arrivals, ...]) -> pd.DataFrame:
    """Return one row a block size: distinct full blocks, and how many were of use.

    Blocks are the same if all tokens from the start to their end are; evicting and inserting one
    again does not make it another. The KVs of a block are used by every hit that reaches beyond it,
    its state only by a hit that ends with it.
    """
    trace = setting.trace(arrivals[0])
    rows = []
    for block in BLOCKS:
        run = Simulator(trace, setting.model, block=block).run("vllm_plus", CAPACITY)
        created, kvs, states = count(trace, run.skipped, block)
        rows.append(
            {
                "block_size": block,
                "blocks": created,
                "kvs_used": kvs,
                "states_used": states,
                "kvs_percent": 100 * kvs / created,
                "states_percent": 100 * states / created,
                "token_hit_rate": run.token_hit_rate,
            }
        )
    return pd.DataFrame(rows)


def count(trace: Trace, skipped: NDArray[np.int64], block: int) -> tuple[int, int, int]:
    """Return how many distinct full blocks there are, have their KVs used, have their state used.

    Args:
        skipped: tokens of each prompt that were served from the cache.
    """
    tree = trace.tree
    ends = tree.depth // block  # full blocks from the root to each node's end
    above = ends[tree.parent]
    used = above.copy()  # how far down a node's own blocks have been used
    states = set()
    for node, hit in zip(trace.in_node.tolist(), skipped.tolist(), strict=True):
        blocks = hit // block
        while node != ROOT:
            reached = min(blocks, int(ends[node]))
            used[node] = max(used[node], reached)
            if above[node] < blocks == reached and hit % block == 0:
                states.add((node, blocks))
            node = int(tree.parent[node])
    return int((ends - above).sum()), int((used - above).sum()), len(states)


REUSE = Experiment("fig3a", {"lmsys": (typing(0.5),)}, reuse)
