"""The server with `--disable-radix-cache`: nothing is kept beyond its request."""

from typing import ClassVar

from marconi_core.sim.server.engine import Running
from marconi_core.sim.server.overlap import OverlapServerSimulator
from marconi_core.sim.server.tree import Tokens


class UncachedServerSimulator(OverlapServerSimulator):
    """Serves requests from pools without a cache."""

    states_per_request: ClassVar[int] = 1

    def look_up(self, prompt: Tokens) -> Running:
        return Running(prompt, 0, None, self._tree.root, 0, 0, 0)

    def cut(self, request: Running) -> int:
        return len(request.prompt)

    def _launched(self, request: Running, start: int, end: int) -> None:
        """No state is copied."""

    def cache_unfinished(self, request: Running) -> None:
        """Nothing is."""

    def finish(self, request: Running, sequence: Tokens) -> None:
        self.free_tokens += len(sequence)
        self.free_states += request.slots
