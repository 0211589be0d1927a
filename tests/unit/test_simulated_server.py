"""The server without a GPU: what it caches, how long it takes, and its interface."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from marconi_core.errors import PolicyError
from marconi_core.models import load_hybrid_model
from marconi_core.models.latency import BatchTimes, PrefillLatency
from marconi_core.provenance import syntax
from marconi_core.serving.__main__ import main
from marconi_core.serving.client import Client
from marconi_core.serving.errors import ServingError
from marconi_core.serving.provenance import CODE
from marconi_core.serving.recorded_times import NoTimesError, batch_times, latest_ttft
from marconi_core.serving.recordings import read_recordings
from marconi_core.serving.server import running
from marconi_core.serving.simulated.__main__ import main as simulated
from marconi_core.serving.simulated.engine import Engine, made_up
from marconi_core.serving.simulated.faults import Fault, at
from marconi_core.serving.simulated.flags import (
    command_line,
    parsed,
    running_requests,
    simulated_server,
)
from marconi_core.serving.spec import ServerSpec
from marconi_core.sim.server import PoolSizes, ServerSimulator
from marconi_core.sim.server.batching import BatchingServer
from marconi_core.sim.server.uncached import UncachedServerSimulator
from marconi_core.sim.server.windows import ReplayWindows
from marconi_core.traces.trace import Request, Trace
from tests.unit.simulated_server import serving

POOLS = PoolSizes(20_000, 20)
COSTS = load_hybrid_model("nemotron_h_8b")
PROMPT = list(range(1000, 1600))


def started(flags: str, states: int = POOLS.states) -> BatchingServer:
    """What a server that is started with these flags simulates."""
    options = command_line().parse_args(["--model-path", "none", *flags.split()])
    return simulated_server(options, COSTS, PoolSizes(POOLS.kv_tokens, states))


NO_BUFFER = "--mamba-radix-cache-strategy no_buffer"


# --- what is cached


@pytest.mark.parametrize(
    ("flags", "hits"),
    [
        # the prompt's end; stock SGLang has it on its grid if there is overlap
        (NO_BUFFER, [0, 600, 0]),
        ("", [0, 512, 0]),
        # the output's end, and the branch point at second sight
        (f"{NO_BUFFER} --enable-marconi --marconi-admission-only", [0, 603, 0]),
        ("--enable-marconi --marconi-eff-weight 0", [0, 604, 0]),
        ("--enable-marconi", [0, 604, 0]),
        ("--disable-radix-cache", [0, 0, 0]),
    ],
)
def test_hits_are_those_of_the_servers_simulator(flags: str, hits: list[int]) -> None:
    server = started(flags)
    output = [1, 2, 3, 4]
    other_end = [*PROMPT, *output, 9, 9] if "marconi" in flags else [*PROMPT, 9, 9]
    prompts = [PROMPT, other_end, [5, *PROMPT]]
    assert [server.serve(prompt, output) for prompt in prompts] == hits
    server.flush()
    assert server.serve(other_end, output) == 0


# --- how long it takes


def test_times_are_the_recorded_ones() -> None:
    # medians of resources/recorded: 57 to 61 ms, 621 ms, 82 ms; 8.1 to 8.3 ms a token
    times = batch_times(latest_ttft("no_buffer"))
    assert times.prefill.ms(1024, 0) == pytest.approx(60, rel=0.2)
    assert times.prefill.ms(16384, 0) == pytest.approx(619, rel=0.15)
    assert times.prefill.ms(16384, 14745) == pytest.approx(82, rel=0.35)
    assert times.token_ms == pytest.approx(8.3, rel=0.05)


async def _times(engine: Engine, prompts: list[list[int]], outputs: int) -> list[list[float]]:
    """Serve prompts at once; return when each token came, in seconds."""
    start = time.monotonic()

    async def one(prompt: list[int]) -> list[float]:
        served: AsyncIterator[object] = engine.serve(prompt, list(range(outputs)))
        return [time.monotonic() - start async for _ in served]

    return await asyncio.gather(*map(one, prompts))


def test_requests_share_batches_in_real_time() -> None:
    """Two prompts fill the first batch; the third waits until one of them has ended."""
    times = BatchTimes(PrefillLatency(100, 0, 0), token_ms=50)
    server = BatchingServer(UncachedServerSimulator(POOLS), 2)
    came = asyncio.run(_times(Engine(server, times, 100), [[1], [2], [3]], 5))
    assert [one[0] for one in came] == pytest.approx([0.1, 0.1, 0.45], abs=0.06)
    assert [one[-1] for one in came] == pytest.approx([0.3, 0.3, 0.65], abs=0.09)


def test_a_client_that_goes_away_ends_its_request() -> None:
    async def leave() -> tuple[int, bool]:
        server = BatchingServer(UncachedServerSimulator(POOLS), 2)
        engine = Engine(server, BatchTimes(PrefillLatency(1, 0, 0), 1), 33_000)
        served = engine.serve(PROMPT, [7] * 10_000)
        await anext(served)
        await served.aclose()
        for _ in range(200):
            if engine.flush():
                return engine.running, server.simulator.free_tokens == POOLS.kv_tokens
            await asyncio.sleep(0.005)
        return engine.running, False

    assert asyncio.run(leave()) == (0, True)


def test_requests_that_do_not_fit_beside_each_other_are_told() -> None:
    """SGLang reserves less than outputs of more than 4,096 tokens take."""
    sizes = PoolSizes(12_000, 20)
    server = BatchingServer(ServerSimulator(sizes), 2)
    engine = Engine(server, BatchTimes(PrefillLatency(1, 0, 0), 1), 33_000, speed=10_000)
    with pytest.raises(PolicyError, match="12000 KV tokens are too few for 2 requests"):
        asyncio.run(_times(engine, [[1], [2]], 7_000))
    assert engine.running == 0
    asyncio.run(_times(engine, [[1, 2]], 3))  # the next one finds everything in order
    assert (server.simulator.free_tokens, server.simulator.free_states) == (12_000 - 4, 18)


def test_whatever_ends_the_simulation_ends_its_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    server = BatchingServer(UncachedServerSimulator(POOLS), 2)
    engine = Engine(server, BatchTimes(PrefillLatency(1, 0, 0), 1), 100)
    with monkeypatch.context() as patch:
        patch.setattr(server, "step", lambda: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            asyncio.run(_times(engine, [[1]], 5))
    assert engine.flush()
    assert len(asyncio.run(_times(engine, [[1]], 5))[0]) == 5


# --- the interface


@pytest.fixture
def client():  # type: ignore[no-untyped-def]
    with serving(started(NO_BUFFER)) as client:
        yield client


def test_streams_have_all_tokens_so_far_or_only_first_and_last(client: Client) -> None:
    def lines(interval: int) -> list[dict]:
        sampling = {"max_new_tokens": 4, "stream_interval": interval}
        body = {"input_ids": PROMPT, "sampling_params": sampling, "stream": True}
        *events, end = client.post("/generate", body).decode().strip().split("\n\n")
        assert end == "data: [DONE]"
        return [json.loads(event.removeprefix("data: ")) for event in events]

    each, two = lines(1), lines(4)
    wanted = made_up(PROMPT, 4)
    assert [event["output_ids"] for event in each] == [wanted[:n] for n in (1, 2, 3, 4)]
    assert [event["output_ids"] for event in two] == [wanted[:1], wanted]
    assert two[0]["meta_info"]["finish_reason"] is None
    assert two[1]["meta_info"]["finish_reason"]["type"] == "length"


def test_replies_without_stream_and_texts(client: Client) -> None:
    body = {"input_ids": PROMPT, "sampling_params": {"max_new_tokens": 2}}
    assert client.json("/generate", body)["output_ids"] == made_up(PROMPT, 2)
    chat = client.json(
        "/v1/chat/completions", {"messages": [{"role": "user", "content": "x" * 50}]}
    )
    assert len(chat["choices"][0]["message"]["content"]) == 128
    assert chat["usage"]["prompt_tokens"] == len("user: \n") + 50
    text = client.json("/v1/completions", {"prompt": [*PROMPT, 5], "max_tokens": 3})
    assert text["usage"]["prompt_tokens_details"]["cached_tokens"] == 600
    assert len(text["choices"][0]["text"]) == 3
    with pytest.raises(ServingError, match=r"HTTP 400 .*streams token ids only"):
        client.json("/v1/completions", {"prompt": "x", "stream": True})
    metrics = {sample.name: sample.value for sample in client.metrics()}
    assert metrics["sglang:cached_tokens_total"] == 600


def test_impossible_requests_are_refused(client: Client) -> None:
    with pytest.raises(ServingError, match=r"HTTP 400 .*longer than the model's context"):
        client.generate([1] * 40_000)
    with pytest.raises(ServingError, match="a pool of 20000 KV tokens holds at most"):
        client.generate([1] * 25_000)
    with pytest.raises(ServingError, match=r"HTTP 400 .*at least one prompt token"):
        client.generate([])
    assert client.generate(PROMPT).prompt_tokens == 600


def test_faults_are_written_kind_at_request() -> None:
    faults = [Fault.of("error@2"), Fault.of("hang@3")]
    assert [at(faults, n) for n in (1, 2, 3)] == [None, "error", "hang"]
    for wrong in ("error", "error@0", "error@x", "explode@1"):
        with pytest.raises(ServingError, match=f"fault '{wrong}': write KIND@REQUEST"):
            Fault.of(wrong)


# --- as a process, in the place of SGLang


def arguments(command: str, variant: str, folder: Path, *more: str) -> list[str]:
    words = [command, "--variant", variant, "--model", "nemotron_h_8b", "--log"]
    words += [str(folder / "log"), *more, "--set", "server=simulated"]
    return [*words, "extra_flags=--simulated-speed 50"]


@pytest.mark.parametrize("variant", ["no_cache", "extra_buffer", "marconi"])
def test_the_checklist_passes(
    variant: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer = tmp_path / "tokenizer.json"
    tokenizer.write_text('{"added_tokens": []}')
    words = arguments("smoke", variant, tmp_path, "--output", str(tmp_path / "smoke.json"))
    assert main([*words, f"tokenizer={tokenizer}"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("simulated server, ") and "not tried" not in printed
    assert json.loads((tmp_path / "smoke.json").read_text())["weights"] == "none"


def test_rows_say_which_code_made_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def made_by(site: Path) -> tuple[str, str | None]:
        words = arguments("smoke", "no_buffer", tmp_path, "--output", str(tmp_path / "smoke.json"))
        words[1:1] = ["--site", str(site)]
        assert main(words) == 0
        said = json.loads((tmp_path / "smoke.json").read_text())
        assert str(tmp_path) not in json.dumps(said["versions"])
        return said["code"], said["plugin"]

    nothing, plugin = tmp_path / "nothing", tmp_path / "site"
    nothing.mkdir()
    (plugin / "marconi_sglang").mkdir(parents=True)
    module = plugin / "marconi_sglang" / "__init__.py"
    module.write_text("raise ImportError('found, not imported')")
    first = made_by(plugin)
    code, installed = made_by(nothing)
    assert code == first[0] and installed != first[1]
    assert (installed is None) == (find_spec("marconi_sglang") is None)
    module.write_text("A = 2")
    syntax.cache_clear()
    assert made_by(plugin)[1] not in (None, first[1])


@pytest.mark.parametrize(
    "part",
    ["serving/ttft", "replay/run", "policies/two_pool", "sim/server/engine", "traces/prompts"],
)
def test_an_edit_of_what_measures_or_decides_shows(part: str) -> None:
    assert any(Path(part).is_relative_to(known) for known in CODE)


def test_it_needs_no_gpu_and_agrees_with_the_simulator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # a lease would fail
    history = [list(range(100 * s, 100 * s + 50)) for s in range(8)]
    trace = Trace.build(
        Request(s, turn, 8 * turn + s, history[s] * (turn + 1), [7 * s, turn, 3])
        for turn in range(4)
        for s in range(8)
    )
    trace.save(tmp_path / "t.npz")
    words = arguments(
        "parity", "marconi_no_buffer", tmp_path, "--trace", str(tmp_path / "t.npz"),
        "--states", "12", "--tokens", "5000", "--output", str(tmp_path / "p.csv"),
    )  # fmt: skip
    assert main([*words, "alpha=0.5"]) == 0
    assert "32 of 32 requests, 0 differ" in capsys.readouterr().out
    [recording] = read_recordings([tmp_path / "p.csv"])
    assert recording.requests_planned == 32 and recording.complete
    assert any(int(line.split(",")[4]) for line in (tmp_path / "p.csv").read_text().split()[1:])


def test_a_comparison_of_nothing_has_failed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Trace.build([Request(0, 0, 0.0, [1, 2], [3])]).save(tmp_path / "t.npz")
    words = arguments(
        "parity", "no_buffer", tmp_path, "--trace", str(tmp_path / "t.npz"), "--deadline", "0",
        "--states", "12", "--tokens", "5000", "--output", str(tmp_path / "p.csv"),
    )  # fmt: skip
    assert main(words) == 1
    assert "0 of 1 requests, 0 differ" in capsys.readouterr().out
    [recording] = read_recordings([tmp_path / "p.csv"])
    assert recording.requests_planned == 1 and not recording.complete


@pytest.mark.parametrize(
    ("flags", "most"),
    [
        # SGLang 0.5.16's own counts: three slots a request, two more for track buffers
        ("", 50),
        ("--mamba-radix-cache-strategy no_buffer", 84),
        ("--enable-marconi", 84),
        ("--enable-marconi --marconi-admission-only", 84),
        ("--disable-radix-cache", 253),
        ("--max-running-requests 16", 16),
        ("--max-running-requests 60", 50),
    ],
)
def test_as_many_requests_run_as_the_states_allow(flags: str, most: int) -> None:
    options = command_line().parse_args(["--model-path", "none", *flags.split()])
    assert running_requests(options, options.max_mamba_cache_size) == most


def test_bad_flags_end_it_with_one_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert simulated(["--model-path", str(tmp_path)]) == 2
    assert "marconi: unknown model" in capsys.readouterr().err
    with pytest.raises(PolicyError, match="at least"):
        started("", states=3)


def test_a_server_whose_times_are_not_known_is_not_started(tmp_path: Path) -> None:
    spec = ServerSpec.of(
        {"variant": "no_buffer", "model": "nemotron_h_8b", "server": "simulated",
         "extra_flags": ["--simulated-gpu", "2026-11-29-h200"]}
    )  # fmt: skip
    with (
        pytest.raises(
            NoTimesError, match=r"on 1 '2026-11-29-h200', only on .* \(2026-11-29-h200b\)"
        ),
        running(spec, tmp_path / "log"),
    ):
        pass
    assert not (tmp_path / "log").exists()


@pytest.mark.parametrize("speed", ["0", "-1", "nan", "inf"])
def test_a_server_without_speed_is_refused(speed: str) -> None:
    with pytest.raises(ServingError, match=r"--simulated-speed is .* must be above 0"):
        parsed(["--model-path", "nemotron_h_8b", "--simulated-speed", speed])


def test_options_of_the_plugin_are_the_plugins() -> None:
    words = ["--model-path", "nemotron_h_8b", "--enable-marconi"]
    sizes, model = PoolSizes(2000, 16), load_hybrid_model("nemotron_h_8b")
    with pytest.raises(ServingError, match="unknown option --marconi-lamda"):
        parsed([*words, "--marconi-lamda", "0.2"])
    options, _ = parsed([*words, "--marconi-tuner", "window", "--marconi-tuning-interval", "9"])
    following = simulated_server(options, model, sizes)._following
    assert following is not None and following.method == ReplayWindows(interval=9)
    options, _ = parsed([*words, "--marconi-lambda", "0.2", "--marconi-branch-gain", "7"])
    policy = simulated_server(options, model, sizes).simulator.policy
    assert policy.eviction is not None
    assert (policy.eviction.other_pool, policy.branch_gain) == (0.2, 7)
