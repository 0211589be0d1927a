"""Cache policies: what is admitted, what is evicted, and who chooses alpha."""

from dataclasses import dataclass
from typing import Literal

from marconi_core.errors import PolicyError


@dataclass(frozen=True)
class Policy:
    """A cache policy of the paper.

    Attributes:
        name: how configurations and result rows call it.
        label: how figures call it.
        admission: `blocks` keeps a state every 32 tokens; `judicious` keeps states at branch points
            and after the last decoded token.
        eviction: `lru`, or `flop_aware` (recency + alpha * FLOPs saved per byte).
        alpha: `static` is given, `tuned` is chosen online; None where eviction needs none.
    """

    name: str
    label: str
    admission: Literal["blocks", "judicious"]
    eviction: Literal["lru", "flop_aware"]
    alpha: Literal["static", "tuned"] | None


POLICIES = {
    policy.name: policy
    for policy in (
        Policy("vllm_plus", "vLLM+", "blocks", "lru", None),
        Policy("sglang_plus", "SGLang+", "judicious", "lru", None),
        Policy("marconi", "Marconi", "judicious", "flop_aware", "tuned"),
        Policy("oracle", "Oracle", "judicious", "flop_aware", "static"),
    )
}


def get_policy(name: str) -> Policy:
    """Return a registered policy.

    Raises:
        PolicyError: there is none of that name; the message lists the valid ones.
    """
    if name not in POLICIES:
        raise PolicyError(f"unknown policy '{name}'; choose one of: {', '.join(POLICIES)}")
    return POLICIES[name]
