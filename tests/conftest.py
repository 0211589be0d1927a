"""Fixtures shared by all tests: the repository, and small hand-made result tables."""

from pathlib import Path

import pandas as pd
import pytest

# One data set, two traces, two capacities. Token hit rates by policy, in trace and capacity order.
HIT_RATES = {
    "vllm_plus": (0.05, 0.10, 0.00001, 0.20),
    "sglang_plus": (0.40, 0.50, 0.25, 0.60),
    "marconi": (0.44, 0.50, 0.20, 0.75),
}
PROMPT_TOKENS = (100, 1_000, 2_000, 5_000)
CONFIGURATIONS = [
    {"dataset": "chats", "trace": f"chats_sps={rate}_nums=2", "capacity_bytes": capacity}
    for rate in (1, 2)
    for capacity in (1e9, 2e9)
]


ROOT = Path(__file__).parents[1]
LONGEST = ("test_smoke.py", "test_report.py")  # minutes each
COMPILING_LITTLE = ("workflow", "faults", "report")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin the longest files first, so that no worker is left alone with one at the end.

    Next what hardly simulates: by the time that the others begin, the smoke run has compiled what
    they need, which takes half a minute in every process that does not find it.

    Skip what reads the sources of our packages where only their wheels are (`make test-wheels`).
    """
    items.sort(
        key=lambda item: (
            item.path.name not in LONGEST,
            item.path.parent.name not in COMPILING_LITTLE,
        )
    )
    if not (ROOT / "marconi_core").is_dir():
        for item in items:
            if item.get_closest_marker("sources"):
                item.add_marker(pytest.mark.skip("the packages' sources are not here"))


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the checkout."""
    return ROOT


@pytest.fixture
def runs() -> pd.DataFrame:
    """Result rows of the three policies that the figures compare."""
    return pd.DataFrame(
        configuration
        | {
            "policy": policy,
            "alpha": index / 2 if policy == "marconi" else float("nan"),
            "tuned": policy == "marconi" and index != 0,
            "token_hit_rate": rates[index],
            "peak_bytes": configuration["capacity_bytes"] * (2 if policy == "vllm_plus" else 1),
        }
        for policy, rates in HIT_RATES.items()
        for index, configuration in enumerate(CONFIGURATIONS)
    )


@pytest.fixture
def requests() -> pd.DataFrame:
    """Request rows of the same runs: every prompt hits at the run's rate."""
    return pd.DataFrame(
        configuration
        | {
            "policy": policy,
            "alpha": float("nan"),
            "request": request,
            "input_tokens": tokens,
            "skipped_tokens": round(rates[index] * tokens),
        }
        for policy, rates in HIT_RATES.items()
        for index, configuration in enumerate(CONFIGURATIONS)
        for request, tokens in enumerate(PROMPT_TOKENS)
    )
