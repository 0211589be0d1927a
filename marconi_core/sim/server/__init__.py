"""A simulator of SGLang's prefix cache for hybrid models, exact to the token.

It predicts what SGLang 0.5.16 does with one request at a time under `no_buffer`, stock or with
Marconi's policies: each request's cached tokens, and the whole tree after it. The tests hold it
against SGLang's own classes. `LegacyServerSimulator` does the same for 0.5.6.post2.
"""

from marconi_core.sim.server.engine import PoolSizes, Served, ServerSimulator
from marconi_core.sim.server.legacy import LegacyServerSimulator
from marconi_core.sim.server.policy import ADMISSION_ONLY, STOCK, ServerPolicy, marconi

__all__ = [
    "ADMISSION_ONLY",
    "STOCK",
    "LegacyServerSimulator",
    "PoolSizes",
    "Served",
    "ServerPolicy",
    "ServerSimulator",
    "marconi",
]
