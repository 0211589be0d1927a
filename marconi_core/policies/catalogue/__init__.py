"""One module a policy, or a family of them: found, not registered.

To add a policy, add a module here with ``POLICIES``, a tuple of `Policy`. Simulations, figures and
the report then have it under its name; `tests/contract` tests it.
"""

import importlib
import pkgutil

from marconi_core.errors import PolicyError
from marconi_core.policies.base import Policy

FIRST = "paper"  # its policies lead every list


def discover() -> dict[str, Policy]:
    """Return the policies of all modules by name: the paper's, then by module in alphabetic order.

    Raises:
        PolicyError: two policies have the same name.
    """
    modules = [module.name for module in pkgutil.iter_modules(__path__)]
    found: dict[str, Policy] = {}
    for module in sorted(modules, key=lambda name: (name != FIRST, name)):
        for policy in importlib.import_module(f"{__name__}.{module}").POLICIES:
            if policy.name in found:
                raise PolicyError(f"{module}: there are two policies named '{policy.name}'")
            found[policy.name] = policy
    return found
