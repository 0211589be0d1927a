"""The plug-in's options of a server's command line, and what they mean, for the plug-in and the simulated server."""

import argparse
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from marconi_core.errors import PolicyError
from marconi_core.policies.two_pool import BRANCH_GAIN, EvictionSettings, Objective
from marconi_core.sim.server.leader import FollowLeader
from marconi_core.sim.server.policy import ServerPolicy
from marconi_core.sim.server.windows import ReplayWindows

Tuner = Literal["leader", "window"]
"""How alpha is tuned: by shadows of the server, or as the paper does."""


@dataclass(frozen=True)
class MarconiSettings:
    """What ``--marconi-...`` options were given.

    Attributes:
        eff_weight: alpha, the weight of FLOP efficiency against recency; None to have it tuned.
        tuner: `leader` or `window`; the next three are for `window` only.
        bootstrap_window_size, bootstrap_multiplier, tuning_interval: `window`, `multiplier` and
            `interval` of `ReplayWindows`; None for what is usual there.
        eviction_policy: see `EvictionSettings.objective`.
        admission_only: evict as stock SGLang does.
        other_pool: lambda, the price of a byte in the pool that is not short.
        branch_gain: tokens that a state at a branch point must save, see `branch_point`.

    Raises:
        PolicyError: a value is out of range.
    """

    eff_weight: float | None = None
    tuner: Tuner = "leader"
    bootstrap_window_size: int | None = None
    bootstrap_multiplier: int | None = None
    tuning_interval: int | None = None
    eviction_policy: Objective = "marconi"
    admission_only: bool = False
    other_pool: float = 1.0
    branch_gain: int = BRANCH_GAIN

    def __post_init__(self) -> None:
        self._eviction()
        if self.branch_gain < 1:
            raise PolicyError(
                f"--marconi-branch-gain is {self.branch_gain}; it must be at least 1, which stands for "
                "every branch point"
            )
        for name in ("bootstrap_window_size", "bootstrap_multiplier", "tuning_interval"):
            value, option = getattr(self, name), f"--marconi-{name.replace('_', '-')}"
            if value is not None and value < 1:
                raise PolicyError(f"{option} is {value}; it must be at least 1")
            if value is not None and self.tuner != "window":
                raise PolicyError(
                    f"{option} is for --marconi-tuner window; add that or leave it out"
                )

    @property
    def eviction(self) -> EvictionSettings | None:
        """How to evict; None for SGLang's own way."""
        return None if self.admission_only else self._eviction()

    def policy(self, concurrent: bool) -> ServerPolicy:
        """Return what a server with these options does.

        Args:
            concurrent: several requests may run at a time, so that they should find each other.
        """
        return ServerPolicy("by_pressure", self.eviction, concurrent, self.branch_gain)

    def _eviction(self) -> EvictionSettings:
        alpha = 0.0 if self.eff_weight is None else self.eff_weight
        return EvictionSettings(self.eviction_policy, alpha, self.other_pool)

    @property
    def tuned(self) -> bool:
        """Alpha is chosen online."""
        return self.eff_weight is None and not self.admission_only and self.eviction_policy != "lru"

    @property
    def method(self) -> FollowLeader | ReplayWindows:
        """How alpha is tuned, if it is."""
        if self.tuner == "leader":
            return FollowLeader()
        usual = ReplayWindows()
        return ReplayWindows(
            self.bootstrap_window_size,
            self.bootstrap_multiplier or usual.multiplier,
            self.tuning_interval or usual.interval,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, which travel with SGLang's own arguments between processes."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "MarconiSettings":
        """Return what `to_dict` has written."""
        return cls(**values)

    @classmethod
    def from_namespace(cls, arguments: argparse.Namespace) -> "MarconiSettings":
        """Return what the options of `add_arguments` say."""
        return cls(**{name: getattr(arguments, f"marconi_{name}") for name in cls.__annotations__})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options to the server's parser."""
    default = MarconiSettings()
    group = parser.add_argument_group("marconi")
    group.add_argument(
        "--enable-marconi",
        action="store_true",
        help="Cache prefixes of hybrid models as Marconi does: states at branch points and after "
        "the last decoded token, FLOP-aware eviction.",
    )
    group.add_argument(
        "--marconi-eff-weight",
        dest="marconi_eff_weight",
        type=float,
        metavar="ALPHA",
        help="Weight of FLOP efficiency against recency, >= 0. Default: 0 at first, then tuned "
        "online.",
    )
    group.add_argument(
        "--marconi-tuner",
        choices=get_args(Tuner),
        default=default.tuner,
        help="Take the alpha that would have served the latest requests best, by simulators that run "
        "along (leader), or replay windows of requests from time to time, as the paper does (window). "
        "Default: %(default)s.",
    )
    group.add_argument(
        "--marconi-bootstrap-window-size",
        type=int,
        metavar="REQUESTS",
        help="With the tuner window: requests recorded before alpha is first tuned. Default: the "
        "bootstrap multiplier times the requests seen at the first eviction.",
    )
    group.add_argument(
        "--marconi-bootstrap-multiplier",
        type=int,
        metavar="N",
        help=f"See --marconi-bootstrap-window-size. Default: {ReplayWindows.multiplier}.",
    )
    group.add_argument(
        "--marconi-tuning-interval",
        type=int,
        metavar="REQUESTS",
        help="With the tuner window: requests from one tuning of alpha to the next. Default: "
        f"{ReplayWindows.interval}.",
    )
    group.add_argument(
        "--marconi-eviction-policy",
        choices=get_args(Objective),
        default=default.eviction_policy,
        help="What counts beside recency: FLOPs saved per byte (marconi), tokens to the next state "
        "above (seglen), nothing (lru). Default: %(default)s.",
    )
    group.add_argument(
        "--marconi-admission-only",
        action="store_true",
        help="Marconi's admission with SGLang's own eviction.",
    )
    group.add_argument(
        "--marconi-branch-gain",
        type=int,
        default=default.branch_gain,
        metavar="TOKENS",
        help="Keep the state at a branch point only if it saves at least so many tokens over the "
        "next state above. 1: at every branch point, as the paper. Default: %(default)s.",
    )
    group.add_argument(
        "--marconi-lambda",
        dest="marconi_other_pool",
        type=float,
        default=default.other_pool,
        metavar="PRICE",
        help="Price of a byte freed in the pool (KVs or states) that is not short; a byte in the "
        "short one costs 1. 0 to 1. Default: %(default)s, all bytes alike.",
    )
