"""How tests that hold for each release start a server: the fixture `start` of its `conftest`."""

from collections.abc import Callable, Iterator
from typing import Any

from marconi_core.sim.server import Strategy
from marconi_core.sim.server.settings import MarconiSettings
from tests.sglang_cpu.server import CpuServer


class Start:
    """Starts servers, and ends the processes that tune for them.

    Attributes:
        strategy: of the servers, as the simulator knows it.
        overlap: they run with overlap scheduling: a request caches one token more.
    """

    def __init__(
        self,
        strategy: Strategy,
        server: Callable[..., CpuServer],
        setup: Callable[..., Any],
        stock: Callable[..., Any],
    ) -> None:
        """Hold what a release makes servers of.

        Args:
            server: makes one of setup, settings and more; settings None for SGLang's own cache.
            setup: makes the setup of a server with Marconi's cache.
            stock: makes the setup of one with SGLang's own that has no known faults.
        """
        self.strategy: Strategy = strategy
        self.overlap = strategy == "extra_buffer"
        self._server, self._setup, self._stock = server, setup, stock
        self._started: list[CpuServer] = []

    def __call__(
        self,
        settings: MarconiSettings | None,
        kv_tokens: int,
        states: int,
        running: int = 1,
        chunk: int | None = None,
        **options: Any,
    ) -> CpuServer:
        """Start a server with Marconi's cache."""
        setup = self._setup(kv_tokens, states, running, chunk)
        made = self._server(setup, settings, **options)
        self._started.append(made)
        return made

    def stock(
        self, kv_tokens: int, states: int, running: int = 1, chunk: int | None = None
    ) -> CpuServer:
        """Start a server with SGLang's own cache."""
        return self._server(self._stock(kv_tokens, states, running, chunk), None)

    def close(self) -> None:
        for server in self._started:
            if server.cache.tuner is not None:
                server.cache.tuner.close()


def starting(start: Start) -> Iterator[Start]:
    """Yield for a fixture; then clear up."""
    yield start
    start.close()
