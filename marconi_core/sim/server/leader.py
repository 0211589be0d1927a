"""Tuning by following the leader: one shadow of the server an alpha, all serving every request.

A shadow is a simulator of the server with its own alpha and its own cache, so that what another alpha
would have saved is known exactly and at once, its long-term effect on the cache included. The alpha
whose shadow has saved the most FLOPs of late leads, and the server takes it. A fixed number of small
simulators is kept, and no requests.
"""

from dataclasses import dataclass

from numpy.typing import ArrayLike

from marconi_core.errors import PolicyError
from marconi_core.models.cost import CostModel
from marconi_core.sim.server.engine import ServerSimulator
from marconi_core.sim.server.judging import Tuning, best

LEADER_ALPHAS = (0.0, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
"""The alphas that compete: a factor of about 2 apart, since little changes in between."""


@dataclass(frozen=True)
class FollowLeader:
    """Settings of this way of tuning.

    Attributes:
        alphas: those that compete; the server's first alpha joins them.
        half_life: requests after which what a shadow has saved counts half.
        lead: by which share an alpha must be ahead of the lowest one. All that counts for alpha 0
            is recency, which never serves much worse than stock SGLang; differences below the noise
            are no reason to leave it.

    Raises:
        PolicyError: no alphas, a half-life that is not positive, or a negative lead.
    """

    alphas: tuple[float, ...] = LEADER_ALPHAS
    half_life: float = 250.0
    lead: float = 0.02

    def __post_init__(self) -> None:
        if not self.alphas:
            raise PolicyError("there is no alpha to choose")
        if not self.half_life > 0:
            raise PolicyError(f"a half-life of {self.half_life} requests is impossible")
        if self.lead < 0:
            raise PolicyError(f"the lead is {self.lead}; it must be at least 0")

    def begin(self, server: ServerSimulator, costs: CostModel) -> "Shadows":
        """Start beside a server."""
        return Shadows(self, server, costs)


class Shadows:
    """The shadows of a server, and what they have saved."""

    def __init__(self, settings: FollowLeader, server: ServerSimulator, costs: CostModel) -> None:
        self._costs = costs
        self._decay, self._lead = 0.5 ** (1 / settings.half_life), settings.lead
        alphas = sorted({*settings.alphas, server.alpha})
        self._lowest = alphas[0]
        self._shadows = {alpha: server.copy() for alpha in alphas}
        for alpha, shadow in self._shadows.items():
            shadow.set_alpha(alpha)
        self._saved = dict.fromkeys(alphas, 0.0)

    def observe(
        self, server: ServerSimulator, prompt: ArrayLike, output: ArrayLike
    ) -> Tuning | None:
        """Serve the request that the server has just served; choose, if its alpha leads no longer.

        Scores are the FLOPs that each shadow has saved, recent ones counting more.
        """
        for alpha, shadow in self._shadows.items():
            saved = self._costs.flops(shadow.serve(prompt, output).hit)
            self._saved[alpha] = self._saved[alpha] * self._decay + saved
        handicapped = {
            alpha: saved if alpha == self._lowest else saved / (1 + self._lead)
            for alpha, saved in self._saved.items()
        }
        leader = best(handicapped, server.alpha)
        return None if leader == server.alpha else Tuning(server.served, leader, dict(self._saved))
