"""The server's command-line options of the plug-in, and what they mean."""

import argparse
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, get_args

from marconi_core.errors import PolicyError
from marconi_core.policies.two_pool import EvictionSettings, Objective


@dataclass(frozen=True)
class MarconiSettings:
    """What ``--marconi-...`` options were given.

    Attributes:
        eff_weight: alpha, the weight of FLOP efficiency against recency; None to have it tuned.
        bootstrap_window_size: requests that the tuner records before it first tunes; None for
            `bootstrap_multiplier` times the requests seen at the first eviction.
        bootstrap_multiplier: see there.
        tuning_interval: requests from one tuning to the next.
        eviction_policy: see `EvictionSettings.objective`.
        admission_only: evict as stock SGLang does.
        other_pool: lambda, the price of a byte in the pool that is not short.

    Raises:
        PolicyError: a value is out of range.
    """

    eff_weight: float | None = None
    bootstrap_window_size: int | None = None
    bootstrap_multiplier: int = 5
    tuning_interval: int = 500
    eviction_policy: Objective = "marconi"
    admission_only: bool = False
    other_pool: float = 1.0

    def __post_init__(self) -> None:
        self._eviction()
        for name in ("bootstrap_window_size", "bootstrap_multiplier", "tuning_interval"):
            value = getattr(self, name)
            if value is not None and value < 1:
                option = f"--marconi-{name.replace('_', '-')}"
                raise PolicyError(f"{option} is {value}; it must be at least 1")

    @property
    def eviction(self) -> EvictionSettings | None:
        """How to evict; None for SGLang's own way."""
        return None if self.admission_only else self._eviction()

    def _eviction(self) -> EvictionSettings:
        alpha = 0.0 if self.eff_weight is None else self.eff_weight
        return EvictionSettings(self.eviction_policy, alpha, self.other_pool)

    @property
    def tuned(self) -> bool:
        """Alpha is chosen online."""
        return self.eff_weight is None and not self.admission_only and self.eviction_policy != "lru"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, which travel with SGLang's own arguments between processes."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "MarconiSettings":
        return cls(**values)

    @classmethod
    def from_namespace(cls, arguments: argparse.Namespace) -> "MarconiSettings":
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
        "--marconi-bootstrap-window-size",
        type=int,
        metavar="REQUESTS",
        help="Requests recorded before alpha is first tuned. Default: the bootstrap multiplier "
        "times the requests seen at the first eviction.",
    )
    group.add_argument(
        "--marconi-bootstrap-multiplier",
        type=int,
        default=default.bootstrap_multiplier,
        metavar="N",
        help="See --marconi-bootstrap-window-size. Default: %(default)s.",
    )
    group.add_argument(
        "--marconi-tuning-interval",
        type=int,
        default=default.tuning_interval,
        metavar="REQUESTS",
        help="Requests from one tuning of alpha to the next. Default: %(default)s.",
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
        "--marconi-lambda",
        dest="marconi_other_pool",
        type=float,
        default=default.other_pool,
        metavar="PRICE",
        help="Price of a byte freed in the pool (KVs or states) that is not short; a byte in the "
        "short one costs 1. 0 to 1. Default: %(default)s, all bytes alike.",
    )
