"""Time to first token, memory, and the recorded measurements."""

import csv
import itertools
import json
from pathlib import Path

import pytest

from marconi_core.assets import resource
from marconi_core.models import load_hybrid_model
from marconi_core.serving.__main__ import main
from marconi_core.serving.busy import decoding
from marconi_core.serving.client import Client, Reply
from marconi_core.serving.errors import ServingError
from marconi_core.serving.measurement import write_as_they_come
from marconi_core.serving.memory import pool_memory
from marconi_core.serving.ttft import Plan, Row, measure, summarize, table
from marconi_core.sim.server import PoolSizes, ServerSimulator
from marconi_core.sim.server.batching import BatchingServer
from tests.unit.simulated_server import serving

FAKE_SITE = Path(__file__).parent / "fake_sglang"
RECORDED = sorted(resource("recorded").glob("*-ttft"))
LOG = """
Mamba Cache is allocated. max_mamba_cache_size: 253, conv_state size: 0.35GB, ssm_state size: 23.81GB
KV Cache is allocated. dtype: torch.bfloat16, #tokens: 1758519, K size: 13.42 GB, V size: 13.42 GB
"""


class CountingClient(Client):
    """Answers without a server; remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__(1)
        self.asked: list[tuple[str, int]] = []
        self.fail_at: int | None = None
        self._seen: list[int] = []

    def flush(self) -> None:
        self.asked.append(("flush", 0))
        self._seen = []

    def generate(self, input_ids, output_tokens=1, **options):  # type: ignore[no-untyped-def]
        if self.fail_at is not None and len(self.asked) >= self.fail_at:
            raise ServingError("gone")
        cached = len(self._seen) if self._seen == input_ids[: len(self._seen)] else 0
        self.asked.append(("prompt", len(input_ids)))
        output = tuple(range(output_tokens))
        self._seen = [*input_ids, *output]
        seconds = (len(input_ids) - cached) / 1000
        return Reply(
            seconds, seconds + output_tokens - 1, len(input_ids), cached, output, output_tokens
        )


PLAN = Plan(
    lengths=(100, 200), fractions=(0.0, 0.9), decode_lengths=(100,), decode_tokens=3, rounds=2,
    warmup_rounds=1, others=(),
)  # fmt: skip


def test_every_request_is_a_row_and_hits_are_on_one_earlier_request() -> None:
    client = CountingClient()
    rows = list(measure(client, PLAN, "extra_buffer"))
    assert len(rows) == PLAN.requests_per_round * 3 == 21
    assert {row.round for row in rows} == {-1, 0, 1}
    for before, row in itertools.pairwise(rows):
        if row.purpose == "hit":
            assert before.purpose == "prefix"
            assert before.prompt_tokens == round(0.9 * row.prompt_tokens)
            # the reply is known too: this is the next turn
            assert row.cached_tokens == row.prefix_tokens == before.prompt_tokens + 1
        else:
            assert row.cached_tokens == 0
    # one flush per prompt: five prompts a round
    assert sum(what == "flush" for what, _ in client.asked) == 5 * 3
    decode = [row for row in rows if row.purpose == "decode"]
    assert {(row.output_tokens, row.total_ms - row.ttft_ms) for row in decode} == {(3, 2000.0)}


def test_prompts_are_timed_beside_requests_that_decode() -> None:
    plan = Plan(
        lengths=(100,), fractions=(0.0,), decode_lengths=(), others=(1, 4), busy_lengths=(100, 300),
        decode_tokens=3, rounds=2, warmup_rounds=1,
    )  # fmt: skip
    server = BatchingServer(ServerSimulator(PoolSizes(kv_tokens=10_000, states=40)), 8)
    with serving(server, speed=4) as client:  # the others decode for 600 ms
        rows = list(measure(client, plan, "no_buffer"))
    assert len(rows) == 3 * plan.requests_per_round == 3 * (1 + 2 * 3)
    grid = [("cold", 100, 1), ("cold", 300, 1), ("decode", 100, 3)]
    for others in plan.others:
        beside = [row for row in rows if row.others == others]
        assert [(r.purpose, r.prompt_tokens, r.output_tokens) for r in beside] == grid * 3
        assert not any(row.cached_tokens for row in beside)
    cells = summarize(rows)
    assert [(c.others, c.prompt_tokens, c.requests) for c in cells] == [
        (0, 100, 2), (1, 100, 4), (1, 300, 2), (4, 100, 4), (4, 300, 2)
    ]  # fmt: skip


def test_no_row_says_that_a_server_was_busy_when_it_was_not() -> None:
    plan = PLAN.model_copy(update={"others": (2,), "other_tokens": 2})
    rows: list[Row] = []
    with serving(BatchingServer(ServerSimulator(PoolSizes(10_000, 40)), 8)) as client:
        with pytest.raises(
            ServingError, match=r"2 of 2 requests .*, after 2 output tokens; give them"
        ):
            rows.extend(row for row in measure(client, plan, "no_buffer"))
        with pytest.raises(ServingError, match="HTTP 400"), decoding(client, [[]], 10):
            pass  # refused, and nobody waits for its first token
    assert not any(row.others for row in rows)


def test_the_order_changes_from_round_to_round_but_not_from_run_to_run() -> None:
    def orders() -> list[list[int]]:
        rows = list(measure(CountingClient(), PLAN.model_copy(update={"rounds": 6}), "x"))
        return [[r.prompt_tokens for r in rows if r.round == n] for n in range(-1, 6)]

    assert orders() == orders()
    assert len({tuple(order) for order in orders()}) > 1


def test_without_a_cache_only_cold_prompts_are_sent() -> None:
    rows = list(measure(CountingClient(), PLAN.without_cache(), "no_cache"))
    assert {row.purpose for row in rows} == {"cold", "decode"}
    assert len(rows) == 3 * PLAN.without_cache().requests_per_round


def test_time_can_run_out_but_not_in_a_pair(caplog: pytest.LogCaptureFixture) -> None:
    rows = list(measure(CountingClient(), PLAN, "x", deadline_s=-1))
    assert rows == [] and "time is up" in caplog.text


def test_rows_survive_a_failure(tmp_path: Path) -> None:
    client = CountingClient()
    client.fail_at = 7
    with pytest.raises(ServingError, match="gone"):
        write_as_they_come(measure(client, PLAN, "x"), tmp_path / "x.csv")
    lines = (tmp_path / "x.csv").read_text().splitlines()
    assert lines[0].split(",") == list(Row._fields) and 2 < len(lines) < 9


def test_the_summary_leaves_warm_up_out() -> None:
    def row(round_: int, ttft_ms: float, cached: int = 0) -> Row:
        return Row("x", round_, "cold", 100, 0, cached, 1, ttft_ms, ttft_ms, 0.0)

    cells = summarize([row(-1, 900.0), row(0, 5.0), row(1, 1.0), row(2, 4.0), row(0, 2.0, 64)])
    assert [tuple(cell) for cell in cells] == [
        (0, 100, 0, 3, 4.0, 1.0, 5.0),
        (0, 100, 64, 1, 2.0, 2.0, 2.0),
    ]
    assert "4.0 (1.0 to 5.0)" in table(cells)


def test_plans_are_checked() -> None:
    with pytest.raises(ValueError, match="at least 0 and less than 1"):
        Plan(fractions=(1.0,))


def test_the_command_line_measures_and_describes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["ttft", "--variant", "no_buffer", "--model", "nemotron_h_8b", "--rounds", "1"]
    arguments += [
        "--lengths",
        "1000",
        "--others",
        "--site",
        str(FAKE_SITE),
        "--log",
        str(tmp_path / "log"),
    ]
    assert main([*arguments, "--output", str(tmp_path)]) == 0
    described = json.loads((tmp_path / "no_buffer.json").read_text())
    assert described["requests"] == described["requests_planned"] == 24
    assert described["weights"] == "random" and described["pools"]["states"] == 253
    assert described["host_pace"]["median_ms"] > 0
    assert " 900  " in capsys.readouterr().out


def test_no_more_others_are_asked_for_than_may_run(tmp_path: Path) -> None:
    arguments = ["ttft", "--variant", "marconi", "--model", "nemotron_h_8b", "--rounds", "1"]
    arguments += ["--lengths", "200", "--others", "3", "9", "--log", str(tmp_path / "log")]
    server = ["server=simulated", "max_running_requests=4", "extra_flags=--simulated-speed 4"]
    assert main([*arguments, "--output", str(tmp_path), "--set", *server]) == 0
    with (tmp_path / "marconi.csv").open(newline="") as file:
        assert {row["others"] for row in csv.DictReader(file)} == {"0", "3"}
    described = json.loads((tmp_path / "marconi.json").read_text())
    assert described["requests"] == described["requests_planned"]
    assert described["plan"]["others"] == [3]


def test_the_log_gives_the_models_bytes_within_its_rounding() -> None:
    memory, model = pool_memory(LOG), load_hybrid_model("nemotron_h_8b")
    assert memory.states == 253 and memory.kv_tokens == 1_758_519
    assert memory.state.low < model.state_bytes < memory.state.high
    assert memory.kv_token.low < model.kv_bytes_per_token < memory.kv_token.high
    assert (memory.state.high - memory.state.low) / memory.state.value < 1e-3


@pytest.mark.parametrize(("line", "missing"), [(1, "Mamba Cache"), (2, "KV Cache")])
def test_a_log_without_pools_is_an_error(line: int, missing: str) -> None:
    text = "\n".join(part for i, part in enumerate(LOG.splitlines()) if i != line)
    with pytest.raises(ServingError, match=f"no line '{missing} is allocated'"):
        pool_memory(text)


@pytest.mark.parametrize("folder", RECORDED, ids=lambda folder: folder.name)
def test_recorded_measurements_are_complete_and_agree_with_the_model(folder: Path) -> None:
    model = load_hybrid_model("nemotron_h_8b")
    described = sorted(path for path in folder.glob("*.json") if "smoke" not in path.name)
    assert described
    for path in described:
        about = json.loads(path.read_text())
        with path.with_suffix(".csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == about["requests"] == about["requests_planned"]
        assert about["weights"] == "random" and "random weights" in about["label"]
        assert about["devices"] and about["versions"]["sglang"] == about["spec"]["sglang"]
        pools = about["pools"]
        assert pools["state_bytes"]["low"] < model.state_bytes < pools["state_bytes"]["high"]
        assert (
            pools["kv_token_bytes"]["low"]
            < model.kv_bytes_per_token
            < pools["kv_token_bytes"]["high"]
        )
        grid = 128 if path.stem == "extra_buffer" else 1  # of the tokens that hits end at
        for row in rows:
            can_hit = row["purpose"] == "hit" and int(row["prefix_tokens"]) >= grid
            assert (int(row["cached_tokens"]) > 0) == can_hit
    assert sum(path.stat().st_size for path in folder.iterdir()) < 2**20
