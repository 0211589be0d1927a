"""The command line: what it prints, and one message for each mistake."""

import hashlib
import json
import lzma
import os
import threading
from pathlib import Path

import pandas as pd
import pytest

from marconi_core.cli import main
from marconi_core.policies import POLICIES
from marconi_core.traces.trace import Trace

REFERENCE = Path(__file__).parents[1] / "golden" / "reference"
TRACE = REFERENCE / "syn2_conversations.jsonl.xz"


def run(*arguments: object) -> int:
    return main(["--quiet", *map(str, arguments)])


@pytest.fixture
def compiled(tmp_path: Path) -> Path:
    path = tmp_path / "trace.npz"
    assert run("compile", TRACE, "-o", path) == 0
    return path


def test_simulate_prints_the_comparable_object(
    compiled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--policy", "marconi", "--capacity", "5e8", "--json")
    assert run("simulate", TRACE, *arguments) == 0
    from_jsonl = json.loads(capsys.readouterr().out)
    assert run("simulate", compiled, *arguments) == 0
    from_compiled = json.loads(capsys.readouterr().out)
    assert from_compiled | {"trace": TRACE.name} == from_jsonl
    assert list(from_jsonl) == [
        "trace", "trace_sha256", "model", "policy", "alpha", "capacity_bytes",
        "bootstrap_multiplier", "requests", "input_tokens", "skipped_tokens", "request_hit_rate",
        "token_hit_rate", "flops_saved", "flops_saved_mamba", "flops_saved_attn",
        "flops_saved_mlp", "request_history_sha256", "skipped_sha256", "evictions_sha256",
        "final_tree_sha256", "final_logical_ts", "evict_calls", "leaf_evictions",
        "intermediate_evictions", "final_alpha", "bootstrap_window_size",
    ]  # fmt: skip
    assert from_jsonl["requests"] == 267 and from_jsonl["model"]["d"] == 4096


def test_block_hashes_compile(tmp_path: Path) -> None:
    source, path = tmp_path / "m.jsonl", tmp_path / "m.npz"
    source.write_text('{"timestamp": 1500, "input_length": 9, "output_length": 2, "hash_ids": [4]}')
    assert run("compile", source, "--format", "mooncake", "-o", path) == 0
    trace = Trace.load(path)
    assert (trace.n_in.tolist(), trace.n_out.tolist(), trace.ts.tolist()) == ([9], [2], [1.5])


def test_simulate_prints_a_line_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("simulate", TRACE, "--policy", "oracle", "--capacity", "5e8", "--alpha", "0.3") == 0
    assert capsys.readouterr().out.startswith("Oracle: token hit rate 35.96%")


def test_sweep_writes_three_tables(
    compiled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "tables"
    assert run("sweep", compiled, "--capacities", "2e8", "5e8", "-o", folder) == 0
    runs = pd.read_parquet(folder / "runs.parquet")
    requests = pd.read_parquet(folder / "requests.parquet")
    tuning = pd.read_parquet(folder / "tuning.parquet")
    static = [policy for policy in POLICIES.values() if policy.alpha == "static"]
    assert len(runs) == 2 * (len(POLICIES) - len(static) + 21 * len(static))
    assert len(requests) == len(runs) * 267
    assert (
        requests.groupby(["capacity_bytes", "policy", "alpha"], dropna=False)["skipped_tokens"]
        .sum()
        .sum()
        == runs["skipped_tokens"].sum()
    )
    tuned = [policy.name for policy in POLICIES.values() if policy.alpha == "tuned"]
    assert set(tuning["policy"]) == set(tuned)
    assert (tuning.groupby(["capacity_bytes", "policy"])["chosen"].sum() == 1).all()
    assert {"trace_digest", "code_digest", "numba_version"} <= set(runs.columns)
    assert "vllm_plus" in capsys.readouterr().out


def test_describe_prints_text_json_and_a_figure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figure = tmp_path / "trace.svg"
    assert run("describe", TRACE, "--plot", figure) == 0
    assert "requests" in capsys.readouterr().out and figure.read_text().startswith("<?xml")
    assert run("describe", TRACE, "--json") == 0
    assert json.loads(capsys.readouterr().out)["requests"] == 267
    for name in ("out", "out.txt"):
        assert run("describe", TRACE, "--plot", tmp_path / name) == 2
        assert f"{name}: a figure's name has to end in .svg" in capsys.readouterr().err
    priced = tmp_path / "cost_$5_and_$10.jsonl"
    priced.write_bytes(lzma.decompress(TRACE.read_bytes()))
    assert run("describe", priced, "--plot", tmp_path / "c.svg") == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.svg", priced.name, "trace.svg"]


def test_a_trace_from_a_pipe_has_a_digest_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    content = lzma.decompress(TRACE.read_bytes())
    writer = threading.Thread(target=lambda: pipe.write_bytes(content))
    writer.start()
    assert run("simulate", pipe, "--policy", "lru", "--capacity", "1e9", "--json") == 0
    writer.join()
    found = json.loads(capsys.readouterr().out)["trace_sha256"]
    assert found != hashlib.sha256(b"").hexdigest()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("simulate", "no.jsonl", "--policy", "marconi", "--capacity", "1e9"), "no.jsonl"),
        (("simulate", "no.npz", "--policy", "marconi", "--capacity", "1e9"), "no.npz: no such"),
        (("simulate", TRACE, "--policy", "fifo", "--capacity", "1e9"), "unknown policy 'fifo'"),
        (("simulate", TRACE, "--policy", "marconi", "--capacity", "1"), "capacity is 1 bytes"),
        (
            ("simulate", TRACE, "--policy", "marconi", "--capacity", "1e9", "--model", "gpt"),
            "unknown model 'gpt'",
        ),
        (("compile", TRACE, "-o", "trace.bin"), "trace.bin: compiled traces end in .npz"),
        (("sweep", TRACE, "--capacities", "1e9", "--policies", "x", "-o", "t"), "policy 'x'"),
    ],
)
def test_mistakes_get_one_line(
    arguments: tuple[object, ...], message: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert run(*arguments) == 2
    output = capsys.readouterr()
    assert output.err.startswith("marconi: ") and message in output.err
    assert output.err.count("\n") == 1 and output.out == ""
    assert list(tmp_path.iterdir()) == []
