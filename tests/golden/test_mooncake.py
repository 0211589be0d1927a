"""Mooncake's published traces: what the reader makes of them, and what is simulated on them.

The numbers were recorded when the files were first read. Sharing is also counted from the hashes
alone, and the simulation of the first requests is repeated by `tests.naive`.
"""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from marconi_core.models import MODELS
from marconi_core.sim.digests import cached_nodes
from marconi_core.sim.simulation import simulate
from marconi_core.traces.arrivals import RecordedArrivals
from marconi_core.traces.describe import describe, shared_prefixes
from marconi_core.traces.sources import load_workload
from marconi_core.traces.sources.mooncake import BLOCK
from marconi_core.traces.trace import Trace
from tests.naive import NaiveBlockCache, NaiveCache, NaiveRadixCache

pytestmark = pytest.mark.network

MODEL = MODELS["paper_7b"]
MAX_TOKENS = 120_000
DIGESTS = {
    "conversation": "7e8199db2fc5a42fa366e3905dabfda36d4d7507a024aadeeb1ff378fb604ef1",
    "synthetic": "dcc26be882fdbddbdc1b3d388960701182843810388467e9e43d4dea91dc153a",
}
REQUESTS = {"conversation": 12_014, "synthetic": 3_982}  # of 12,031 and 3,993; others are too long

Loader = Callable[..., Trace]


@pytest.fixture(scope="module")
def load(get: Callable[[str], Path], data_dir: Path) -> Loader:
    def load_trace(name: str, requests: int, **options: int) -> Trace:
        get(f"mooncake_{name}")
        params = {"trace": name, "sessions": requests, **options}
        workload = load_workload("mooncake", params, data_dir)
        return workload.schedule(RecordedArrivals().timestamps(workload))

    return load_trace


@pytest.fixture(scope="module")
def conversation(load: Loader) -> Trace:
    return load("conversation", REQUESTS["conversation"])


def test_conversation_trace(conversation: Trace) -> None:
    assert conversation.digest() == DIGESTS["conversation"]
    summary = describe(conversation)
    assert (summary.input_tokens, summary.output_tokens) == (142_710_399, 4_115_135)
    assert tuple(summary.input_quantiles.values()) == (901, 2302, 6889, 15314, 39029, 119540)
    assert summary.duration_s == 3536.999
    assert summary.shared_same_session == 0
    assert round(100 * summary.shared_other_session, 1) == 37.4


def test_synthetic_trace(load: Loader) -> None:
    assert load("synthetic", REQUESTS["synthetic"]).digest() == DIGESTS["synthetic"]


def test_sharing_is_that_of_the_hashes(conversation: Trace, get: Callable[[str], Path]) -> None:
    known: set[int] = set()
    expected = []
    for line in get("mooncake_conversation").read_text().splitlines():
        row = json.loads(line)
        if row["input_length"] > MAX_TOKENS:
            continue
        new = (place for place, block in enumerate(row["hash_ids"]) if block not in known)
        blocks = next(new, len(row["hash_ids"]))
        expected.append(min(BLOCK * blocks, row["input_length"]))
        known.update(row["hash_ids"])
    _, other = shared_prefixes(conversation)
    assert other.tolist() == expected


@pytest.mark.parametrize(
    ("policy", "skipped"),
    [
        ("vllm_plus", 8_209_120),
        ("sglang_plus", 26_622_928),
        ("marconi", 26_830_800),
        ("gdsf", 27_950_179),
    ],
)
def test_tokens_served_with_a_terabyte(conversation: Trace, policy: str, skipped: int) -> None:
    assert simulate(conversation, policy, 1e12, MODEL).skipped.sum() == skipped


def test_outputs_taken_to_be_continued_serve_states(load: Loader) -> None:
    trace = load("conversation", REQUESTS["conversation"], continued=True)
    assert trace.digest() == "2fb625796c3641ccda9a42eee10d1b626185f8512ab0b344cdb99436912d2ad4"
    assert round(100 * describe(trace).shared_other_session, 1) == 38.9
    assert simulate(trace, "vllm_plus", 1e12, MODEL).skipped.sum() == 8_280_102
    assert simulate(trace, "marconi", 1e12, MODEL).skipped.sum() == 44_217_412


@pytest.mark.parametrize("policy", ["vllm_plus", "sglang_plus", "oracle"])
def test_first_requests_as_the_naive_simulator_has_them(load: Loader, policy: str) -> None:
    capacity, alpha = 2e10, 0.5 if policy == "oracle" else None
    trace = load("conversation", 200, max_tokens=8_000)  # the naive one nests a block in a block
    naive: NaiveCache = (
        NaiveBlockCache(MODEL, capacity)
        if policy == "vllm_plus"
        else NaiveRadixCache(MODEL, capacity, alpha)
    )
    naive.replay(
        [(trace.input_tokens(i).tolist(), trace.output_tokens(i).tolist()) for i in range(200)]
    )
    run = simulate(trace, policy, capacity, MODEL, alpha=alpha, log=True)
    assert run.skipped.tolist() == [skipped for _, _, skipped in naive.records]
    assert run.evicted.sum() == len(naive.evictions) > 0
    assert [tuple(node) for node in cached_nodes(run)] == naive.final_tree()
