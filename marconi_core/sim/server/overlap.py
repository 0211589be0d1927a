"""The same under `extra_buffer` with overlap scheduling, SGLang 0.5.16's default.

With overlap, the server launches a step before it has seen the result of the step before. So one
decoding step is on its way when the prompt's end is cached, and one more than needed when a request
finishes: the last token of the output has been through the model, and can be cached too.

At a prompt's end, the running state is therefore past it already. Stock SGLang has the model copy
states into two track buffers as it goes, on a grid (`TrackingServerSimulator`). The plug-in keeps
exact positions and needs no buffers (`OverlapServerSimulator`).
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from marconi_core.errors import PolicyError
from marconi_core.models.cost import CostModel
from marconi_core.policies.two_pool import HEADROOM
from marconi_core.sim.server.engine import PoolSizes, Running, ServerSimulator
from marconi_core.sim.server.policy import STOCK, ServerPolicy
from marconi_core.sim.server.tree import Match, Tokens


class OverlapServerSimulator(ServerSimulator):
    """The server with the plug-in: states at exact positions, one slot for a running request."""

    overlap: ClassVar[bool] = True

    def _launched(self, request: Running, start: int, end: int) -> None:
        if end < len(request.prompt):
            return
        request.keeps_prompt_state = super()._admits(request, end)
        if request.keeps_prompt_state or self.policy.probation:
            super()._take_copy(request, end)  # the next step will overwrite the state
            request.slots += 1

    def _admits(self, request: Running, position: int) -> bool:
        if position == len(request.prompt):
            return request.keeps_prompt_state  # decided when the end was launched
        return super()._admits(request, position)

    def _take_copy(self, request: Running, done: int) -> None:
        if done == len(request.prompt):
            request.slots -= 1  # taken when the prompt's end was launched
        else:
            super()._take_copy(request, done)

    def _generate(self, request: Running, output: Tokens) -> None:
        self._decode(1)
        if len(output) > 1:
            self.cache_unfinished(request)
            self._decode(len(output) - 1)
            self._decoded(request, len(request.prompt) + len(output))
        self.finish(request, np.concatenate((request.prompt, output)))

    def _decoded(self, request: Running, length: int) -> None:
        """All steps are taken in; the request ends with so many tokens."""


@dataclass(frozen=True)
class TrackGrid:
    """Where the model copies states into track buffers.

    Attributes:
        chunk: in a prompt, each prefill chunk's last multiple of so many tokens, counted from the
            chunk's start; the model's own chunk (128 for Nemotron-H).
        interval: in the output, each multiple of so many tokens, counted from the prompt's start
            (`--mamba-track-interval`).

    Raises:
        PolicyError: less than one token.
    """

    chunk: int = 128
    interval: int = 256

    def __post_init__(self) -> None:
        if min(self.chunk, self.interval) < 1:
            raise PolicyError(
                f"states cannot be tracked every {self.chunk} or {self.interval} tokens"
            )


class TrackingServerSimulator(OverlapServerSimulator):
    """Stock SGLang.

    Each chunk of a prompt, and the output, leave at most one state: at the last point of the grid,
    or at the branch point, if that lies in the chunk and on its grid. KVs behind it are not cached.

    Two faults of 0.5.16 leave the prediction as it is: they cache a wrong state at the right place,
    and take several requests at a time (`sglang_patch/README.md`).
    """

    slots_per_request: ClassVar[int] = 3
    states_per_request: ClassVar[int] = HEADROOM + 2  # two track buffers

    def __init__(
        self,
        sizes: PoolSizes,
        policy: ServerPolicy = STOCK,
        costs: CostModel | None = None,
        chunk: int | None = None,
        grid: TrackGrid | None = None,
    ) -> None:
        """Start with an empty cache; see `ServerSimulator`.

        Raises:
            PolicyError: as there; or another policy than stock SGLang's.
        """
        if policy != STOCK:
            raise PolicyError("only stock SGLang has track buffers; Marconi does without")
        self.grid = grid or TrackGrid()
        super().__init__(sizes, policy, costs, chunk)

    def _branch(self, match: Match) -> int | None:
        aligned = match.kv_tokens - match.kv_tokens % self.grid.chunk
        return aligned if match.kv_tokens > match.state_tokens and aligned else None

    def cut(self, request: Running) -> int:
        return len(request.prompt)

    def _launched(self, request: Running, start: int, end: int) -> None:
        if end - start < self.grid.chunk:
            return
        request.tracked = end - (end - start) % self.grid.chunk
        branch = request.branch
        if branch is not None and start < branch < end and (branch - start) % self.grid.chunk == 0:
            request.tracked = branch

    def cache_unfinished(self, request: Running) -> None:
        if request.tracked is not None:
            self._take_state()  # takes the place of the buffer that is handed over
            self._cache(request, request.prompt[: request.tracked], wanted=True)
            request.tracked = None

    def step_seen(self, request: Running, length: int) -> None:
        if length % self.grid.interval == 0:
            request.tracked = length

    def _decoded(self, request: Running, length: int) -> None:
        # A step's position is looked at when the next step is on its way: the first one's never is.
        boundary = length - length % self.grid.interval
        if boundary > len(request.prompt) + 1:
            self.step_seen(request, boundary)

    def finish(self, request: Running, sequence: Tokens) -> None:
        kept = request.tracked or 0
        self.free_tokens += len(sequence) - max(kept, request.own_from)
        super().finish(request, sequence[:kept])
