"""A simulator of SGLang's prefix cache for hybrid models, exact to the token.

It predicts what SGLang 0.5.16 does, stock or with Marconi's policies: each request's cached tokens, and
the whole tree after it. `server_simulator` makes the one for a server's strategy, `no_buffer` or
`extra_buffer`, and serves one request after the other; `batching` has it serve several at a time. The
tests hold both against SGLang's own classes. `LegacyServerSimulator` does the first for 0.5.6.post2.
"""

from marconi_core.sim.server.engine import PoolSizes, Served, ServerSimulator
from marconi_core.sim.server.legacy import LegacyServerSimulator
from marconi_core.sim.server.overlap import (
    OverlapServerSimulator,
    TrackGrid,
    TrackingServerSimulator,
)
from marconi_core.sim.server.policy import ADMISSION_ONLY, STOCK, ServerPolicy, marconi
from marconi_core.sim.server.strategy import Strategy, most_running, server_simulator

__all__ = [
    "ADMISSION_ONLY",
    "STOCK",
    "LegacyServerSimulator",
    "OverlapServerSimulator",
    "PoolSizes",
    "Served",
    "ServerPolicy",
    "ServerSimulator",
    "Strategy",
    "TrackGrid",
    "TrackingServerSimulator",
    "marconi",
    "most_running",
    "server_simulator",
]
