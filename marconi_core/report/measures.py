"""How each claim's number is computed from the results of one data set, or from formulas alone."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import pandas as pd

from marconi_core.models import MODELS, flops
from marconi_core.models.paper import TRANSFORMER_7B, blockwise_bytes
from marconi_core.policies import COMPARED
from marconi_core.report.latency import PUBLISHED
from marconi_core.report.metrics import (
    PAPER_DECIMALS,
    VANILLA,
    hit_rates,
    largest_ttft_reduction,
    p95_ttft,
    ratios,
    relative_gains,
)


class Measured(NamedTuple):
    """A measure computed the paper's way, and without the paper's intermediate rounding."""

    value: float
    exact: float


@dataclass(frozen=True)
class Results:
    """Result rows of one data set, with the tables that several measures share."""

    runs: pd.DataFrame
    requests: pd.DataFrame

    @cached_property
    def rates(self) -> pd.DataFrame:
        """Token hit rates in percent."""
        return hit_rates(self.runs, COMPARED)

    @cached_property
    def p95_ttft(self) -> pd.DataFrame:
        """P95 TTFT in milliseconds."""
        return p95_ttft(self.requests, COMPARED)


@dataclass(frozen=True)
class Measure:
    """A way to compute a claim's number.

    Attributes:
        compute: from what it needs and the claim's `at`.
        needs: `GRID`, the `Results`; `FIGURE`, the rows of the experiment that is named like the
            claim's figure; or `FORMULAS`, nothing.
    """

    compute: Callable[..., Measured | float]
    needs: str


GRID, FIGURE, FORMULAS = "grid", "figure", "formulas"


# From the configured grid


def _mean_ratio(baseline: str) -> Callable[[Results, str], Measured]:
    def compute(results: Results, at: str) -> Measured:
        value, exact = (
            float(ratios(hit_rates(results.runs, COMPARED, decimals), "marconi", baseline).mean())
            for decimals in (PAPER_DECIMALS, None)
        )
        return Measured(value, exact)

    return compute


def _p95_gain(baseline: str) -> Callable[[Results, str], Measured]:
    def compute(results: Results, at: str) -> Measured:
        value, exact = (
            float(relative_gains(results.rates, "marconi", baseline, decimals).quantile(0.95))
            for decimals in (PAPER_DECIMALS, None)
        )
        return Measured(value, exact)

    return compute


def _ttft_points(baseline: str) -> Callable[[Results, str], float]:
    return lambda results, at: largest_ttft_reduction(results.p95_ttft, "marconi", baseline)[0]


def _ttft_ms(baseline: str) -> Callable[[Results, str], float]:
    return lambda results, at: largest_ttft_reduction(results.p95_ttft, "marconi", baseline)[1]


# From the rows of the figure's own experiment


def _at(rows: pd.DataFrame, at: str, baseline: str) -> tuple[float, float]:
    """Return token hit rates in percent, of Marconi and of a baseline, as rounded in the logs."""
    there = rows[rows["x"] == at].set_index("policy")["token_hit_rate"]
    rates = (100 * there).round(PAPER_DECIMALS)
    return float(rates["marconi"]), float(rates[baseline])


def _ratio_at(baseline: str) -> Callable[[pd.DataFrame, str], float]:
    def compute(rows: pd.DataFrame, at: str) -> float:
        ours, theirs = _at(rows, at, baseline)
        return ours / theirs if theirs else float("nan")

    return compute


def _gain_at(baseline: str) -> Callable[[pd.DataFrame, str], float]:
    ratio = _ratio_at(baseline)
    return lambda rows, at: 100 * (ratio(rows, at) - 1)


def _reused(column: str) -> Callable[[pd.DataFrame, str], float]:
    return lambda rows, at: float(rows.set_index("block_size")[column][int(at)])


def _reuse_ratio(rows: pd.DataFrame, at: str) -> float:
    used = rows.set_index("block_size").loc[int(at)]
    return float(used["kvs_used"] / used["states_used"]) if used["states_used"] else float("nan")


def _overall_rate(rows: pd.DataFrame, at: str) -> float:
    own = rows[rows["policy"] == at]
    return float(100 * own["skipped_tokens"].sum() / own["input_tokens"].sum())


def _hit_gain(rows: pd.DataFrame, at: str) -> float:
    before, after = (_overall_rate(rows, policy) for policy in ("sglang_plus", "marconi"))
    return 100 * (after / before - 1) if before else float("nan")


def _flops_gain(rows: pd.DataFrame, at: str) -> float:
    saved = rows.groupby("policy")["flops_saved_in_all"].first()
    before = saved["sglang_plus"]
    return float(100 * (saved["marconi"] / before - 1)) if before else float("nan")


def _ttft_percentiles(rows: pd.DataFrame, at: str) -> tuple[float, float]:
    times = rows.assign(ttft=PUBLISHED.ms(rows["input_tokens"], rows["skipped_tokens"]))
    found = times.groupby("policy")["ttft"].quantile(float(at) / 100)
    return float(found["sglang_plus"]), float(found["marconi"])


def _ttft_reduction_ms(rows: pd.DataFrame, at: str) -> float:
    before, after = _ttft_percentiles(rows, at)
    return before - after


def _ttft_reduction_percent(rows: pd.DataFrame, at: str) -> float:
    before, after = _ttft_percentiles(rows, at)
    return 100 * (before - after) / before


# From formulas


def _sequence_gigabytes(at: str) -> float:
    return blockwise_bytes(MODELS["paper_7b"], int(at), block=16) / 1e9


def _sequence_over_transformer(at: str) -> float:
    return 1e9 * _sequence_gigabytes(at) / (int(at) * TRANSFORMER_7B.kv_bytes)


def _attention_layers_percent(at: str) -> float:
    model = MODELS["paper_7b"]
    layers = model.num_attn_layers, model.num_ssm_layers, model.num_mlp_layers
    return 100 * layers[0] / sum(layers)


def _conv_state_percent(at: str) -> float:
    model = MODELS["paper_7b"]
    convolution = flops.state_bytes(model.d, model.n, expansion=0)
    return 100 * convolution / flops.state_bytes(model.d, model.n)


BASELINES = (VANILLA, "vllm_plus", "sglang_plus")

MEASURES: Mapping[str, Measure] = {
    "mean_ratio_over_vllm_plus": Measure(_mean_ratio("vllm_plus"), GRID),
    "p95_gain_over_sglang_plus": Measure(_p95_gain("sglang_plus"), GRID),
    **{f"ttft_points_under_{name}": Measure(_ttft_points(name), GRID) for name in BASELINES},
    **{f"ttft_ms_under_{name}": Measure(_ttft_ms(name), GRID) for name in BASELINES},
    **{f"ratio_over_{name}_at": Measure(_ratio_at(name), FIGURE) for name in BASELINES[1:]},
    **{f"gain_over_{name}_at": Measure(_gain_at(name), FIGURE) for name in BASELINES[1:]},
    "reused_kvs_percent": Measure(_reused("kvs_percent"), FIGURE),
    "reused_states_percent": Measure(_reused("states_percent"), FIGURE),
    "reused_kvs_over_states": Measure(_reuse_ratio, FIGURE),
    "hit_rate_percent": Measure(_overall_rate, FIGURE),
    "hit_gain": Measure(_hit_gain, FIGURE),
    "flops_gain": Measure(_flops_gain, FIGURE),
    "ttft_reduction_percent": Measure(_ttft_reduction_percent, FIGURE),
    "ttft_reduction_ms": Measure(_ttft_reduction_ms, FIGURE),
    "sequence_gigabytes": Measure(_sequence_gigabytes, FORMULAS),
    "sequence_over_transformer": Measure(_sequence_over_transformer, FORMULAS),
    "attention_layers_percent": Measure(_attention_layers_percent, FORMULAS),
    "conv_state_percent": Measure(_conv_state_percent, FORMULAS),
}
