"""The paper's traces, byte for byte, rendered from the compiled form: compiling loses nothing."""

import hashlib
import json
from pathlib import Path

import pytest

from marconi_core.files import sha256_file
from marconi_core.traces.arrivals import Arrivals, PoissonArrivals, TypingArrivals
from marconi_core.traces.describe import describe
from marconi_core.traces.jsonl import read_trace, write_trace
from marconi_core.traces.tokenizers import LLAMA2_SHA256, load_encoder
from marconi_core.traces.trace import Workload

pytestmark = pytest.mark.network

SHAREGPT = {
    0.25: "eba123330ee81e76b2713a9f9eb702d52fd8d2125c8ad71f2094312b9ab3f41c",
    0.5: "ddcd97ee8c7d94d78b81f1af75aa9f7939a68c2dd87e9c4ea5f4ee4b0ad689ec",
    1: "b6547a9a6c4f129bdba9c8e3203d588d0538fd4e39e5bcd63f1998c21f4de7ea",
    2: "20b78b865d9702a7d858482864bd3152f87a56628389e9af551fb85b4948176b",
    5: "1aa6b86bf1e588cc4e899a98834230298f36cea961ad57159e9aac5cd6ec3687",
    10: "6d3506efa11ae846c5971f2d0bb1c1a2c41fe994f861d74b9d394e405d3925e7",
}
SWEBENCH = "587754313c755c68c205fbcee7d51256b14c3a52e8bd756d7def895440be5577"


def written(workload: Workload, arrivals: Arrivals, path: Path) -> str:
    write_trace(workload.schedule(arrivals.timestamps(workload)), path)
    return sha256_file(path)


def test_llama2_tokenizer_is_rebuilt_byte_for_byte(tokenizer):
    content = tokenizer.read_bytes()
    assert len(content) == 1_842_767
    assert hashlib.sha256(content).hexdigest() == LLAMA2_SHA256


def test_llama2_tokenizer_gives_the_reference_ids(tokenizer):
    path = Path(__file__).with_name("tokenizer-vectors.json")
    vectors = json.loads(path.read_text(encoding="utf-8"))
    assert len(vectors) == 20
    ids = load_encoder(tokenizer)([vector["text"] for vector in vectors])
    assert [array.tolist() for array in ids] == [vector["llama2"] for vector in vectors]


@pytest.mark.parametrize("sps", SHAREGPT)
def test_sharegpt_traces_of_the_paper(sharegpt, tmp_path, sps):
    arrivals = TypingArrivals(sessions_per_second=sps)
    assert written(sharegpt, arrivals, tmp_path / "trace.jsonl") == SHAREGPT[sps]


def test_sharegpt_trace_survives_reading_and_writing(sharegpt, tmp_path):
    written(sharegpt, TypingArrivals(sessions_per_second=1), tmp_path / "trace.jsonl")
    write_trace(read_trace(tmp_path / "trace.jsonl"), tmp_path / "again.jsonl")
    assert sha256_file(tmp_path / "again.jsonl") == SHAREGPT[1]


def test_swebench_stand_in(swebench, tmp_path):
    arrivals = PoissonArrivals(sessions_per_second=1, mean_response_time=5)
    assert written(swebench, arrivals, tmp_path / "trace.jsonl") == SWEBENCH


def test_compiled_file_is_the_same_workload(sharegpt, tmp_path):
    sharegpt.save(tmp_path / "sharegpt.npz")
    loaded = Workload.load(tmp_path / "sharegpt.npz")
    arrivals = TypingArrivals(sessions_per_second=2)
    assert written(loaded, arrivals, tmp_path / "trace.jsonl") == SHAREGPT[2]


def table_row(workload: Workload, arrivals: Arrivals) -> tuple[object, ...]:
    """One row of the table of data sets: lengths in tokens, shares of prompt tokens in per cent."""
    summary = describe(workload.schedule(arrivals.timestamps(workload)))
    return (
        summary.requests,
        tuple(summary.input_quantiles.values()),
        (round(summary.input_mean), round(summary.output_mean)),
        round(100 * summary.shared_same_session, 1),
        round(100 * summary.shared_other_session, 1),
    )


def test_description_of_sharegpt(sharegpt):
    assert table_row(sharegpt, TypingArrivals(sessions_per_second=1)) == (
        1238,
        (87, 521, 1087, 1751, 2398, 5671),
        (1162, 116),
        93.4,
        1.5,
    )


def test_description_of_swebench(swebench):
    assert table_row(swebench, PoissonArrivals(sessions_per_second=1, mean_response_time=5)) == (
        3340,
        (2864, 6760, 9554, 13536, 23080, 32581),
        (10727, 357),
        66.5,
        1.5,
    )


@pytest.mark.parametrize(
    "arrivals",
    [
        TypingArrivals(sessions_per_second=1),
        PoissonArrivals(sessions_per_second=1, mean_response_time=5),
    ],
)
def test_description_of_tau_airline(load, arrivals):
    assert table_row(load("tau_airline"), arrivals) == (
        2454,
        (1525, 2119, 3207, 5042, 8850, 15531),
        (3918, 114),
        92.0,
        38.5,
    )


def test_long_conversations_come_from_the_same_file(load):
    workload = load("sharegpt_long")
    assert len(workload.session_ids) == 100
    assert workload.n_in.max() <= 32768
    assert workload.n_in.mean() > 5000
