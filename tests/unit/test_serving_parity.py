"""The comparison of server and simulator, with a simulator in the server's place."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from marconi_core.assets import resource
from marconi_core.errors import ModelError
from marconi_core.serving.__main__ import main
from marconi_core.serving.client import Reply
from marconi_core.serving.errors import ServingError
from marconi_core.serving.parity import compare, predicted_server
from marconi_core.serving.spec import ServerSpec
from marconi_core.sim.server import STOCK, PoolSizes, ServerSimulator
from marconi_core.sim.server.batching import BatchingServer
from marconi_core.traces.trace import Request, Trace

POOLS = PoolSizes(2000, 16)


@dataclass
class FakeClient:
    """Answers like a server with these pools; replies differ from the recorded ones."""

    pools: PoolSizes = POOLS
    lost: int = 0
    prompts: list[list[int]] = field(default_factory=list)

    def flush(self) -> None:
        self.simulator = ServerSimulator(self.pools, STOCK)

    def generate(self, input_ids: list[int], output_tokens: int) -> Reply:
        output = [1000 + len(self.prompts) * 50 + k for k in range(output_tokens)]
        self.prompts.append(input_ids)
        hit = self.simulator.serve(input_ids, output).hit
        return Reply(0.01, 0.02, len(input_ids), hit, tuple(output[self.lost :]), output_tokens)


def simulated() -> BatchingServer:
    return BatchingServer(ServerSimulator(POOLS, STOCK), 1)


@pytest.fixture
def trace() -> Trace:
    """Five interleaved conversations of four turns."""
    histories: dict[int, list[int]] = {s: [s + 1] for s in range(5)}
    requests = []
    for turn in range(4):
        for session, history in histories.items():
            prompt = [*history, *range(100 * session, 100 * session + 7 + turn)]
            output = [session + 500] * 5
            requests.append(Request(session, turn, float(len(requests)), prompt, output))
            histories[session] = prompt + output
    return Trace.build(requests)


def test_equal_servers_agree_and_history_holds_the_replies(trace: Trace) -> None:
    client = FakeClient()
    rows = list(compare(client, simulated(), trace, 1000))  # type: ignore[arg-type]
    assert len(rows) == len(trace)
    assert all(row.predicted_tokens == row.cached_tokens for row in rows)
    assert sum(row.cached_tokens for row in rows) > 0
    assert [row.prompt_tokens for row in rows] == trace.n_in.tolist()
    first, second = client.prompts[0], client.prompts[5]
    assert second[: len(first) + 5] == [*first, *range(1000, 1005)]
    assert 500 in trace.input_tokens(5) and 500 not in second


def test_no_request_is_sent_after_the_deadline(trace: Trace) -> None:
    client = FakeClient()
    rows = compare(client, simulated(), trace, 1000, 0.0)  # type: ignore[arg-type]
    assert not list(rows) and not client.prompts


def test_other_pools_are_found_out(trace: Trace) -> None:
    client = FakeClient(PoolSizes(2000, 8))
    rows = list(compare(client, simulated(), trace, 1000))  # type: ignore[arg-type]
    assert any(row.predicted_tokens != row.cached_tokens for row in rows)


def test_replies_without_ids_are_refused(trace: Trace) -> None:
    client = FakeClient(lost=1)
    with pytest.raises(ServingError, match="asked for 5 tokens, 4 came back"):
        list(compare(client, simulated(), trace, 1000))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "fields",
    [
        {"variant": "no_buffer"},
        {"variant": "extra_buffer"},
        {"variant": "admission_only"},
        {"variant": "marconi", "alpha": 0.5},
        {"variant": "seglen_no_buffer", "alpha": 1},
    ],
)
def test_variants_are_predicted(fields: dict[str, Any]) -> None:
    spec = ServerSpec.of({"model": "nemotron_h_8b", **fields})
    server = predicted_server(spec, PoolSizes(100_000, 20))
    first, output = [*range(1, 1001)], [*range(1, 9)]
    server.serve(first, output)
    assert server.serve([*first, *output, 5, 6], output) > 0


def test_the_model_may_be_a_folder_or_on_the_hub(tmp_path: Path) -> None:
    config = resource("models/nemotron_h_8b.json")
    (tmp_path / "config.json").write_bytes(config.read_bytes())
    for model in (str(tmp_path), "nvidia/Nemotron-H-8B-Base-8K"):
        spec = ServerSpec.of({"model": model, "variant": "no_buffer", "weights": "real"})
        assert predicted_server(spec, POOLS).serve([1, 2], [3]) == 0
    unknown = ServerSpec.of({"model": "nobody/nothing", "variant": "no_buffer"})
    with pytest.raises(ModelError, match="unknown model 'nobody/nothing'"):
        predicted_server(unknown, POOLS)


def test_no_times_are_needed() -> None:
    """None were recorded of this model."""
    spec = ServerSpec.of({"model": "falcon_h1_7b", "variant": "no_buffer"})
    assert predicted_server(spec, POOLS).serve([1, 2], [3]) == 0


def test_what_is_asked_for_does_not_override_what_is_compared(trace: Trace, tmp_path: Path) -> None:
    trace.save(tmp_path / "t.npz")
    words = ["parity", "--variant", "no_buffer", "--model", "nemotron_h_8b", "--requests", "4"]
    words += ["--trace", str(tmp_path / "t.npz"), "--states", "16", "--tokens", "2000"]
    words += ["--set", "server=simulated", "max_running_requests=9", "max_mamba_cache_size=99"]
    words += ["extra_flags=--simulated-speed 500", "--log", str(tmp_path / "log")]
    assert main([*words, "--output", str(tmp_path / "p.csv")]) == 0
    spec = json.loads((tmp_path / "p.json").read_text())["spec"]
    assert (spec["max_running_requests"], spec["max_mamba_cache_size"]) == (1, 16)
    assert spec["extra_flags"] == ["--simulated-speed", "500", "--skip-server-warmup"]


def test_what_cannot_be_compared_is_refused_before_a_server_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["parity", "--variant", "marconi", "--model", "nemotron_h_8b", "--states", "16"]
    words += ["--tokens", "2000", "--set", "server=simulated", "--log", str(tmp_path / "log")]
    words += ["--output", str(tmp_path / "p.csv"), "--trace", str(tmp_path / "none.npz")]
    assert main(words) == 2
    assert "when a tuned alpha changes is not predictable" in capsys.readouterr().err
    assert main([*words, "--set", "alpha=1"]) == 2
    assert "none.npz" in capsys.readouterr().err
    assert not (tmp_path / "log").exists()


def test_rows_do_not_go_into_the_description(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["parity", "--variant", "no_buffer", "--model", "nemotron_h_8b", "--states", "16"]
    words += ["--tokens", "2000", "--trace", "t.npz", "--log", str(tmp_path / "log")]
    assert main([*words, "--output", str(tmp_path / "p.json")]) == 2
    assert "p.json is no .csv file" in capsys.readouterr().err


def test_a_tuned_alpha_is_not_predictable() -> None:
    spec = ServerSpec.of({"model": "nemotron_h_8b", "variant": "marconi"})
    with pytest.raises(ServingError, match="when a tuned alpha changes is not predictable"):
        predicted_server(spec, PoolSizes(100_000, 20))
