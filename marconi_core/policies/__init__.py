"""Cache policies: what is admitted, what is evicted, and who chooses alpha.

Every module of `marconi_core.policies.catalogue` defines policies; nothing else has to know them.
"""

from marconi_core.errors import PolicyError
from marconi_core.policies.base import Policy
from marconi_core.policies.catalogue import discover

__all__ = ["COMPARED", "POLICIES", "Policy", "get_policy"]

POLICIES: dict[str, Policy] = discover()

COMPARED = ("vllm_plus", "sglang_plus", "marconi")
"""What the paper's figures and claims compare: its baselines and its own policy."""


def get_policy(name: str) -> Policy:
    """Return a registered policy.

    Raises:
        PolicyError: there is none of that name; the message lists the valid ones.
    """
    if name not in POLICIES:
        raise PolicyError(f"unknown policy '{name}'; choose one of: {', '.join(POLICIES)}")
    return POLICIES[name]
