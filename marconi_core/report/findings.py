"""What the paper's figures do not show: sentences computed from the result rows of one data set."""

from collections.abc import Iterator

import pandas as pd

from marconi_core.policies import COMPARED, POLICIES
from marconi_core.report.metrics import CONFIGURATION, PAPER_DECIMALS, hit_rates, relative_gains


def findings(runs: pd.DataFrame) -> Iterator[str]:
    """Yield one sentence per finding.

    Args:
        runs: rows of one data set; static alphas (policy `oracle`) add to what can be said.
    """
    rates = hit_rates(runs, COMPARED)
    yield _alphas(runs)
    yield _mean_rates(runs, rates)
    yield from _other_policies(runs)
    yield _worst_configuration(runs, rates)
    yield _left_out(rates)
    yield from _over_capacity(runs)


def _alphas(runs: pd.DataFrame) -> str:
    marconi = runs[runs["policy"] == "marconi"]
    off = marconi[marconi["alpha"] == 0]
    never = int((~off["tuned"]).sum())
    return (
        f"Marconi ends with alpha = 0, so without FLOP-aware eviction, in {len(off)} of "
        f"{len(marconi)} configurations ({len(off) - never} tuned to 0, {never} never tuned)."
    )


def _mean_rates(runs: pd.DataFrame, rates: pd.DataFrame) -> str:
    means = rates.mean()
    text = (
        f"Mean token hit rates: vLLM+ {means['vllm_plus']:.2f} %, "
        f"SGLang+ {means['sglang_plus']:.2f} %, Marconi (tuned) {means['marconi']:.2f} %"
    )
    static = runs[runs["policy"] == "oracle"]
    if not static.empty:
        by_alpha = 100 * static.groupby("alpha")["token_hit_rate"].mean()
        best_each = 100 * static.groupby(CONFIGURATION)["token_hit_rate"].max().mean()
        text += (
            f"; one static alpha everywhere: {by_alpha.iloc[0]:.2f} % at {by_alpha.index[0]:g}, "
            f"at best {by_alpha.max():.2f} % (alpha {by_alpha.idxmax():g}); the best static alpha "
            f"of each configuration: {best_each:.2f} %"
        )
    return text + "."


def _other_policies(runs: pd.DataFrame) -> Iterator[str]:
    others = [
        policy
        for policy in POLICIES.values()
        if policy.name not in COMPARED and policy.alpha != "static"
    ]
    means = 100 * runs.groupby("policy")["token_hit_rate"].mean()
    listed = [f"{one.label} {means[one.name]:.2f} %" for one in others if one.name in means]
    if listed:
        yield f"Policies that the paper does not have: {', '.join(listed)}."


def _worst_configuration(runs: pd.DataFrame, rates: pd.DataFrame) -> str:
    gains = relative_gains(rates, "marconi", "sglang_plus")
    if gains.empty:
        return "SGLang+ never hits, so gains over it are undefined."
    marconi = runs[runs["policy"] == "marconi"].set_index(CONFIGURATION)
    table = rates.assign(gain=gains, alpha=marconi["alpha"]).reset_index()
    worst = table.sort_values("gain").iloc[0]
    return (
        f"Marconi has a lower hit rate than SGLang+ in {int((gains < 0).sum())} of {len(gains)} "
        f"configurations; least favourable is {worst['trace']} at {worst['capacity_bytes']:.3g} bytes: "
        f"{worst['marconi']:.2f} % against {worst['sglang_plus']:.2f} % "
        f"(alpha {worst['alpha']:g})."
    )


def _left_out(rates: pd.DataFrame) -> str:
    zero = int((rates["vllm_plus"].round(PAPER_DECIMALS) == 0).sum())
    return (
        f"vLLM+ never hits (0.00 %) in {zero} of {len(rates)} configurations"
        f"{'; the mean ratio leaves them out' if zero else ''}."
    )


def _over_capacity(runs: pd.DataFrame) -> Iterator[str]:
    excess = (runs["peak_bytes"] / runs["capacity_bytes"]).groupby(runs["policy"]).max()
    over = excess[excess > 1]
    if not over.empty:
        listed = ", ".join(f"{policy} up to {factor:.2f}x" for policy, factor in over.items())
        yield f"As in the paper's simulator, caches outgrow their capacity: {listed}."
