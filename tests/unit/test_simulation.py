"""The compiled simulator against a naive one on random traces, and its settings."""

import math
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from marconi_core.errors import ModelError, PolicyError
from marconi_core.models import MODELS, load_hybrid_model
from marconi_core.models.paper import Geometry, PaperModel
from marconi_core.policies.corrections import PAPER as AS_PUBLISHED
from marconi_core.policies.corrections import Corrections
from marconi_core.sim.digests import cached_nodes, summary
from marconi_core.sim.simulation import Simulation, Simulator, simulate
from marconi_core.sim.sweep import _storable
from marconi_core.traces.trace import Request, Trace
from tests.naive import NaiveBlockCache, NaiveCache, NaiveRadixCache

PAPER = MODELS["paper_7b"]
SMALL = Geometry(num_ssm_layers=3, num_attn_layers=2, num_mlp_layers=4, d=8, n=4)
PURE_ATTENTION = Geometry(num_ssm_layers=0, num_attn_layers=3, num_mlp_layers=3, d=8, n=4)

Pair = tuple[list[int], list[int]]

tokens = st.integers(1, 3)  # few, so that prefixes are shared and false hits occur


@st.composite
def conversations(draw: st.DrawFn) -> list[Pair]:
    """Return requests that extend, cut or repeat earlier sequences, or share only a beginning."""
    requests: list[Pair] = []
    for _ in range(draw(st.integers(1, 40))):
        history: list[int] = []
        if requests and draw(st.booleans()):
            prompt, output = requests[draw(st.integers(0, len(requests) - 1))]
            history = (prompt + output)[: draw(st.integers(0, 90))]
        fresh = draw(st.lists(tokens, min_size=0 if history else 1, max_size=40))
        requests.append((history + fresh, draw(st.lists(tokens, max_size=20))))
    return requests


@st.composite
def forks(draw: st.DrawFn) -> list[Pair]:
    """Return requests that mostly fork earlier ones: both ends are stamped alike if nothing goes."""
    shapes = st.tuples(*[st.integers(1, last) for last in (8, 4, 3)], st.integers(0, 30))
    return [
        ([stem, branch, twig, *[9] * length], [])
        for stem, branch, twig, length in draw(st.lists(shapes, min_size=10, max_size=60))
    ]


ONES = [1] * 14
# A false hit stamps two leaves alike, one of which is the last that an eviction takes.
TIED_LEAVES: list[Pair] = [
    ([2, 3], ONES[:5]), ([2], ONES[:8]), ([2, *ONES[:7]], [3, 1]), *[([1], [])] * 5,
    ([1], [1, 1, 1, 2, 1]), ([1], [*ONES[:6], 2]), ([2], [1, 3, *ONES[:13]]), ([1], [*ONES[:5], 2]),
    ([1], [1, 1, 2, 2, *ONES[:8]]), ([1], [1, 1, 2, 1]), ([1], [1, 1, 1, 1, 2]), ([2], [3, 2]),
    ([3], []), ([1], [1, 2]), ([1], [1, *ONES]), ([2, *ONES[:7], 3, 1], []),
]  # fmt: skip
# Two tails of which the sequence matches one wholly and the other as far, but in part.
RIVAL_TAILS: list[Pair] = [
    ([1], []), (ONES[:6], []), ([1], []), ([1], [3]), ([1], []), (ONES[:2], []), (ONES[:12], []),
]  # fmt: skip


def compiled(requests: list[Pair]) -> Trace:
    return Trace.build(Request(i, 0, float(i), *pair) for i, pair in enumerate(requests))


def assert_same(run: Simulation, naive: NaiveCache) -> None:
    log = run.evictions
    kinds = ["li"[kind] for kind in log.kind]
    history = [
        (int(skipped > 0), prompt, skipped)
        for prompt, skipped in zip(run.trace.n_in.tolist(), run.skipped.tolist(), strict=True)
    ]
    assert history == naive.records
    assert (
        list(
            zip(
                log.request.tolist(),
                kinds,
                log.tokens.tolist(),
                log.timestamp.tolist(),
                strict=True,
            )
        )
        == naive.evictions
    )
    assert [tuple(node) for node in cached_nodes(run)] == naive.final_tree()
    assert run.clock == naive.clock
    assert run.first_eviction == naive.first_eviction
    assert run.evicted.sum() == len(naive.evictions)


def some_corrections() -> st.SearchStrategy[Corrections]:
    """Corrections of the cache itself, any subset; those of the tuner change no replay."""
    return st.one_of(st.just(AS_PUBLISHED), st.builds(Corrections, *[st.booleans()] * 6))


@settings(max_examples=300, deadline=None)
@given(
    conversations(),
    st.sampled_from([SMALL, PURE_ATTENTION, PAPER]),
    st.floats(2, 30),
    st.sampled_from([None, 0.0, 0.1, 0.7, 2.0]),
    some_corrections(),
)
@example(TIED_LEAVES, SMALL, 7.0, None, AS_PUBLISHED)
def test_radix_cache_equals_the_naive_one(
    requests: list[Pair],
    model: Geometry,
    room: float,
    alpha: float | None,
    corrections: Corrections,
) -> None:
    trace = compiled(requests)
    capacity = room * (model.state_bytes + model.kv_bytes * 40)
    naive = NaiveRadixCache(model, capacity, alpha, corrections)
    naive.replay(requests)
    policy = "sglang_plus" if alpha is None else "oracle"
    simulator = Simulator(trace, model, corrections=corrections)
    run = simulator.run(policy, capacity, alpha=alpha, log=True)
    assert_same(run, naive)
    if corrections.capacity and corrections.whole_edges:
        assert run.peak_bytes <= capacity


@settings(max_examples=300, deadline=None)
@given(
    forks(),
    st.sampled_from([SMALL, PURE_ATTENTION, PAPER]),
    st.floats(2, 30),
    some_corrections(),
)
def test_leaves_of_the_same_age_go_in_the_order_of_heapq(
    requests: list[Pair], model: Geometry, room: float, corrections: Corrections
) -> None:
    capacity = room * (model.state_bytes + model.kv_bytes * 40)
    naive = NaiveRadixCache(model, capacity, None, corrections)
    naive.replay(requests)
    simulator = Simulator(compiled(requests), model, corrections=corrections)
    assert_same(simulator.run("sglang_plus", capacity, log=True), naive)


@settings(max_examples=150, deadline=None)
@given(
    conversations(),
    st.sampled_from([SMALL, PURE_ATTENTION, PAPER]),
    st.floats(2, 12),
    st.sampled_from([32, 4]),
    some_corrections(),
)
@example(RIVAL_TAILS, SMALL, 1.0, 32, AS_PUBLISHED)
def test_block_cache_equals_the_naive_one(
    requests: list[Pair], model: Geometry, room: float, block: int, corrections: Corrections
) -> None:
    trace = compiled(requests)
    capacity = room * (model.state_bytes + model.kv_bytes * 40)
    naive = NaiveBlockCache(model, capacity, corrections)
    naive.BLOCK = block
    naive.replay(requests)
    simulator = Simulator(trace, model, corrections=corrections, block=block)
    assert_same(simulator.run("vllm_plus", capacity, log=True), naive)


@settings(max_examples=40, deadline=None)
@given(
    conversations(), st.floats(1.0, 30.0), st.sampled_from(["vllm_plus", "sglang_plus", "oracle"])
)
def test_a_cost_model_is_the_formulas_without_their_quirk(
    requests: list[Pair], states: float, policy: str
) -> None:
    trace = compiled(requests)
    capacity = states * SMALL.state_bytes + 10_000 * SMALL.kv_bytes / states
    alpha = 2.0 if policy == "oracle" else None
    runs = [
        simulate(trace, policy, capacity, model, alpha=alpha, corrections=corrections, log=True)
        for model, corrections in (
            (SMALL, Corrections(mlp_of_parent=True)), (PaperModel(SMALL), AS_PUBLISHED),
        )
    ]  # fmt: skip
    first, second = (summary(run, "trace", "0") for run in runs)
    assert first.pop("model") == SMALL._asdict()
    assert second.pop("model") == {
        "state_bytes": SMALL.state_bytes, "kv_bytes_per_token": SMALL.kv_bytes,
        **PaperModel(SMALL).prefill._asdict(),
    }  # fmt: skip
    assert first == second


def test_real_layers_are_charged_their_own_bytes() -> None:
    """Three requests without a common prefix; two leaves fit, so that the oldest must go."""
    model = load_hybrid_model("granite_4_h_small")
    trace = compiled([([1] * 8, [2]), ([3] * 8, [2]), ([4] * 8, [2])])
    leaf = model.state_bytes + 9 * model.kv_bytes_per_token
    run = simulate(
        trace, "sglang_plus", 2 * leaf, model, corrections=Corrections(capacity=True), log=True
    )
    assert run.peak_bytes == 2 * leaf and run.leaf_evictions == 1


def test_alpha_changes_when_the_window_is_full() -> None:
    requests = [
        ([i % 7 + 1] * (i % 5 + 1) + [9] * (i * 13 % 60 + 1), [i % 3 + 1]) for i in range(300)
    ]
    trace = compiled(requests)
    capacity = 12 * (SMALL.state_bytes + SMALL.kv_bytes * 20)
    simulator = Simulator(trace, SMALL)
    tuned = simulator.run("marconi", capacity, bootstrap_multiplier=3)
    assert tuned.tuning is not None and tuned.alpha == tuned.tuning.alpha
    assert tuned.window == tuned.tuning.request == 3 * tuned.first_eviction
    before = tuned.window - 1
    untuned = simulator.run("oracle", capacity, alpha=0.0)
    assert (tuned.skipped[: before + 1] == untuned.skipped[: before + 1]).all()
    for alpha, score in tuned.tuning.scores.items():
        window = Simulator(trace, SMALL).run("oracle", capacity, alpha=alpha)
        squares = int((window.skipped[: tuned.window] ** 2).sum())
        total = int(window.skipped[: tuned.window].sum())
        d, n = SMALL.d, SMALL.n
        assert score == (
            3 * (12 * total * d * d + 16 * total * d * n + 10 * total * d)
            + 2 * (8 * total * d * d + 4 * squares * d)
            + 4 * 16 * total * d * d
        )


def test_shared_static_replays_do_not_change_the_tuner() -> None:
    trace = compiled([([i % 7 + 1] * (i % 50 + 1), [i % 3 + 1]) for i in range(200)])
    capacity = 8 * (SMALL.state_bytes + SMALL.kv_bytes * 20)
    shared = Simulator(trace, SMALL)
    for alpha in shared.alphas:
        shared.run("oracle", capacity, alpha=alpha)
    one, other = shared.run("marconi", capacity), simulate(trace, "marconi", capacity, SMALL)
    assert one.tuning == other.tuning
    assert (one.skipped == other.skipped).all()


def test_multiplier_one_never_tunes() -> None:
    trace = compiled([([i % 7 + 1] * (i % 50 + 1), [2]) for i in range(200)])
    capacity = 8 * (SMALL.state_bytes + SMALL.kv_bytes * 20)
    run = simulate(trace, "marconi", capacity, SMALL, bootstrap_multiplier=1)
    assert run.first_eviction > 0 and run.tuning is None and run.alpha == 0.0


def test_large_cache_searches_in_groups() -> None:
    """More candidates than one group holds, so that bounds and the order of groups matter."""
    requests = [([i % 97 + 1, i * i % 89 + 1] * (i * 31 % 40 + 1), [i % 5 + 1]) for i in range(700)]
    for alpha in (None, 0.0, 0.3, 2.0):
        capacity = 300 * (SMALL.state_bytes + SMALL.kv_bytes * 40)
        naive = NaiveRadixCache(SMALL, capacity, alpha)
        naive.replay(requests)
        assert len(naive.evictions) > 20
        policy = "sglang_plus" if alpha is None else "oracle"
        run = Simulator(compiled(requests), SMALL).run(policy, capacity, alpha=alpha, log=True)
        assert_same(run, naive)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"policy": "fifo"}, "unknown policy 'fifo'; choose one of: vllm_plus, sglang_plus"),
        ({"policy": "marconi", "alpha": 1.0}, "takes no alpha"),
        ({"policy": "oracle", "alpha": -0.1}, "must be a number >= 0"),
        ({"policy": "oracle", "alpha": math.nan}, "must be a number >= 0"),
        ({"policy": "marconi", "bootstrap_multiplier": 0}, "must be >= 1"),
        (
            {"policy": "marconi", "capacity_bytes": 100},
            r"shortest request of the trace \(3 tokens\)",
        ),
        ({"policy": "marconi", "capacity_bytes": math.nan}, "capacity is nan bytes; give a number"),
        ({"policy": "marconi", "capacity_bytes": math.inf}, "capacity is inf bytes; give a number"),
        ({"policy": "marconi", "alphas": [0.0, math.nan]}, "must be a number >= 0"),
        ({"policy": "seglen", "alphas": [-1.0]}, "must be a number >= 0"),
    ],
)
def test_impossible_settings_are_refused(arguments: dict[str, object], message: str) -> None:
    trace = compiled([([1, 2], [3]), ([4] * 9, [])])
    settings = {"capacity_bytes": 1e9, "model": PAPER} | arguments
    with pytest.raises(PolicyError, match=message):
        simulate(trace, **settings)  # type: ignore[arg-type]


def test_sequences_beyond_exact_arithmetic_are_refused() -> None:
    trace = compiled([([1] * 400_000, [])])
    with pytest.raises(ModelError, match="400000 tokens"):
        simulate(trace, "marconi", 1e12, PAPER)


def test_summary_of_a_hand_computed_case() -> None:
    """Two requests, the second continues the first: its whole history is a hit."""
    trace = compiled([([1, 2, 3], [4]), ([1, 2, 3, 4, 5], [6])])
    run = simulate(trace, "sglang_plus", 1e6, SMALL, log=True)
    result = summary(run, "two", "0")
    assert run.skipped.tolist() == [0, 4]
    assert result["token_hit_rate"] == 4 / 8 and result["request_hit_rate"] == 1 / 2
    assert result["flops_saved_mamba"] == 3 * (12 * 4 * 64 + 16 * 4 * 8 * 4 + 10 * 4 * 8)
    assert result["flops_saved_attn"] == 2 * (8 * 4 * 64 + 4 * 16 * 8)
    assert result["flops_saved_mlp"] == 4 * 16 * 4 * 64
    assert result["final_logical_ts"] == 6 and result["alpha"] is None
    assert run.peak_bytes == 2 * SMALL.state_bytes + 6 * SMALL.kv_bytes


def test_flops_beyond_64_bits_are_kept_as_floats(tmp_path: Path) -> None:
    rows = pd.DataFrame({"flops_saved": [1, 2**65], "flops_saved_mlp": [1, 2], "alpha": [0.0, 1.0]})
    kept = _storable(rows)
    kept.to_parquet(tmp_path / "rows.parquet")
    assert kept["flops_saved"].tolist() == [1.0, 2.0**65]
    assert kept["flops_saved_mlp"].dtype == "int64" and _storable(rows.iloc[:0]).empty
