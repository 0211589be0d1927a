"""Servers from start to stop, against a package named like SGLang that needs no GPU."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from marconi_core.serving.__main__ import main
from marconi_core.serving.client import Client, Sample, parse_metrics
from marconi_core.serving.errors import ServingError
from marconi_core.serving.lease import gpus, leased
from marconi_core.serving.provenance import provenance
from marconi_core.serving.server import Process, Server, running
from marconi_core.serving.smoke import render, smoke_test
from marconi_core.serving.spec import Runtime, ServerSpec

FAKE_SITE = Path(__file__).parent / "fake_sglang"
RUNTIME = Runtime(site=FAKE_SITE)


@pytest.fixture(autouse=True)
def _leases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARCONI_LEASES", str(tmp_path / "leases"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def spec(**fields: object) -> ServerSpec:
    return ServerSpec.of({"variant": "extra_buffer", "model": "nemotron_h_8b", **fields})


def start(folder: Path, **options: object) -> AbstractContextManager[Server]:
    fields = options.pop("spec", spec())
    grace_s = options.pop("grace_s", 5.0)
    return running(fields, folder / "server.log", runtime=RUNTIME, grace_s=grace_s, **options)  # type: ignore[arg-type]


def alive(process: int) -> bool:
    """Whether a process runs; one that is dead but not yet collected does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def gone_within(process: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while alive(process) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not alive(process)


# --- descriptions


def test_the_command_line_carries_every_field() -> None:
    given = spec(
        variant="no_buffer", max_mamba_cache_size=40, max_total_tokens=90_000,
        max_running_requests=4, chunked_prefill_size=2048, ssm_dtype="bfloat16",
        extra_flags=("--schedule-policy", "fcfs"),
    )  # fmt: skip
    words = " ".join(given.arguments(1234))
    for part in (
        "--model-path nemotron_h_8b", "--port 1234", "--load-format dummy", "--skip-tokenizer-init",
        "--mamba-radix-cache-strategy no_buffer --disable-overlap-schedule",
        "--max-mamba-cache-size 40", "--max-total-tokens 90000", "--max-running-requests 4",
        "--chunked-prefill-size 2048", "--mamba-ssm-dtype bfloat16", "--schedule-policy fcfs",
    ):  # fmt: skip
        assert part in words
    assert "--max-mamba-cache-size" not in spec().arguments(1)
    assert "--disable-radix-cache" in spec(variant="no_cache").arguments(1)
    real = spec(weights="real", tokenizer="folder").arguments(1)
    assert "--load-format" not in real and real[real.index("--tokenizer-path") + 1] == "folder"


@pytest.mark.parametrize(
    ("given", "flags"),
    [
        (False, "--disable-prefill-cuda-graph"),
        ("false", "--disable-prefill-cuda-graph"),
        ("true", ""),
        ("64 1024", "--cuda-graph-bs-prefill 64 1024"),
        ([64], "--cuda-graph-bs-prefill 64"),
    ],
)
def test_prefill_graphs_are_none_all_or_some(given: object, flags: str) -> None:
    words = spec(prefill_graphs=given).arguments(1)
    at = words.index("--tensor-parallel-size")
    graphs = [word for word in words[at:] if "prefill" in word or word in ("64", "1024")]
    assert " ".join(graphs) == flags


def test_the_plug_in_is_a_variant_with_overlap_and_without() -> None:
    words = spec(variant="marconi", alpha=0.5).arguments(1)
    assert words[words.index("--marconi-eff-weight") + 1] == "0.5" and "--enable-marconi" in words
    assert "--disable-overlap-schedule" not in words
    words = spec(variant="seglen_no_buffer").arguments(1)
    assert words[words.index("--marconi-eviction-policy") + 1] == "seglen"
    assert "--disable-overlap-schedule" in words and "--marconi-eff-weight" not in words
    assert spec(variant="marconi", alpha=0.5).label.count("marconi at alpha 0.5") == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"alpha": 0.5}, "alpha: extra_buffer has no FLOP-aware eviction; leave alpha out"),
        ({"variant": "marconi", "alpha": -1}, "alpha: Input should be greater than or equal to 0"),
        ({"extra_flags": ["--enable-marconi"]}, "--enable-marconi has a field of its own"),
        ({"variant": "magic"}, "variant: unknown variant 'magic'; choose one of no_cache"),
        (
            {"max_mamba_cache": 3},
            "max_mamba_cache: unknown field; did you mean `max_mamba_cache_size`",
        ),
        ({"chunked_prefill_size": 0}, "chunked_prefill_size: must be at least 1, or -1"),
        ({"extra_flags": ["--tp", "2"]}, "--tp has a field of its own"),
        ({"extra_flags": ["--model=other"]}, "--model=other has a field of its own"),
        ({"extra_flags": ["--mamba-scheduler-strategy", "no_buffer"]}, "or is the variant's"),
        ({"extra_flags": ["--api-ke", "x"]}, "--api-ke would be recorded"),
        ({"prefill_graphs": "0 64"}, "prefill_graphs.*: Input should be greater than 0"),
        (
            {"extra_flags": ["--cuda-graph-bs-prefill", "64"]},
            "--cuda-graph-bs-prefill has a field of its own",
        ),
        ({"extra_flags": ["--max-total-tokens=5"]}, "--max-total-tokens=5 has a field of its own"),
        (
            {"extra_flags": ["--disable-radix-cache"]},
            "--disable-radix-cache has a field of its own",
        ),
    ],
)
def test_a_wrong_field_is_named(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ServingError, match=message.replace("(", r"\(")):
        spec(**fields)


def test_missing_files_are_named_before_anything_starts(tmp_path: Path) -> None:
    model = tmp_path / "model"
    for fields, message in (
        ({"model": "nemotron"}, "none of .*nemotron_h_8b"),
        ({"model": "nemotron_h_8b", "weights": "real"}, "only describes a model"),
        ({"model": str(model)}, "no folder, no name on the hub"),
        ({"tokenizer": str(tmp_path)}, "tokenizer: .* has none of"),
    ):
        with pytest.raises(ServingError, match=message):
            spec(**fields).check_files()
    model.mkdir()
    with pytest.raises(ServingError, match=r"no config\.json"):
        spec(model=str(model)).check_files()
    (model / "config.json").write_text("{}")
    spec(model=str(model)).check_files()
    with pytest.raises(ServingError, match="put the weights there"):
        spec(model=str(model), weights="real").check_files()
    spec(model="nvidia/Nemotron-H-8B-Base-8K", weights="real").check_files()


def test_random_weights_are_in_the_label_and_the_hub_is_off() -> None:
    assert spec().label.endswith("random weights")
    assert "random" not in spec(weights="real", model="nvidia/x").label
    assert RUNTIME.environment(spec(), {})["HF_HUB_OFFLINE"] == "1"
    assert "HF_HUB_OFFLINE" not in RUNTIME.environment(spec(model="nvidia/x"), {})


def test_a_bundle_comes_before_the_interpreters_packages(tmp_path: Path) -> None:
    runtime = Runtime(python=Path("/opt/py/bin/python3"), site=tmp_path, kernels=tmp_path / "k")
    variables = runtime.environment(
        spec(), {"PYTHONPATH": "/mine", "PATH": "/bin", "CUDA_HOME": "/c"}
    )
    assert variables["PYTHONPATH"].split(os.pathsep)[:2] == [str(tmp_path), "/mine"]
    assert variables["PATH"] == f"/opt/py/bin{os.pathsep}/bin" and variables["CUDA_HOME"] == "/c"
    assert variables["TRITON_CACHE_DIR"] == str(tmp_path / "k" / "triton")


# --- start and stop


def test_a_server_starts_answers_and_is_gone(tmp_path: Path) -> None:
    with start(tmp_path) as server:
        assert server.client.status("/health") == 200
        assert (server.info.version, server.info.kv_tokens) == ("0.5.16", 1_760_000)
        assert alive(server.process.pid)
    assert not alive(server.process.pid)
    assert server.client.status("/health") is None


def test_death_at_the_start_shows_the_end_of_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE", "die")
    with pytest.raises(ServingError, match=r"(?s)status 3 .*no kernel image"), start(tmp_path):
        pass


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["serve", "--port", "99999"], "port: 99999 is none; leave it out"),
        (["serve", "--port", "0"], "port: 0 is none"),
        (["serve", "--log", "FOLDER"], "log: .* cannot be written"),
        (["ttft", "--rounds", "0", "--output", "FOLDER"], "rounds: Input should be greater than 0"),
        (["outputs", "--families", "0", "--output", "FOLDER"], "families: Input should be"),
        (["bench", "--groups", "0", "--output", "FOLDER/b.json"], "groups: Input should be"),
    ],
)
def test_a_wrong_option_is_one_error(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [word.replace("FOLDER", str(tmp_path)) for word in words]
    more = [] if "--log" in words else ["--log", str(tmp_path / "log")]
    server = ["--variant", "no_buffer", "--model", "nemotron_h_8b", "--site", str(FAKE_SITE)]
    assert main([*given, *server, *more]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "log").exists()


def test_a_server_that_never_answers_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE", "never")
    with (
        pytest.raises(ServingError, match=r"(?s)not healthy after 1 s.*loading nemotron"),
        start(tmp_path, start_timeout_s=1.0),
    ):
        pass
    with leased(["0"], "the next one"):
        pass


def test_sigkill_follows_where_sigterm_is_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE", "stubborn")
    with start(tmp_path, grace_s=0.3) as server:
        before = time.monotonic()
    assert server.process.status == 128 + signal.SIGKILL
    assert 0.3 <= time.monotonic() - before < 10


def test_no_child_outlives_its_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE", "family")
    monkeypatch.setenv("FAKE_CHILD", str(tmp_path / "child"))
    with start(tmp_path):
        child = int((tmp_path / "child").read_text())
        assert alive(child)
    assert not alive(child)


def test_a_server_that_dies_in_use_is_the_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE", "crash")
    with (
        pytest.raises(ServingError, match=r"(?s)ended with status 9 while in use.*CUDA error"),
        start(tmp_path) as server,
    ):
        server.client.generate([1, 2, 3])


def test_an_error_of_the_user_of_a_healthy_server_passes(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), start(tmp_path) as server:
        print(1 / 0)
    assert not alive(server.process.pid)


def test_another_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE", "other_version")
    with (
        pytest.raises(ServingError, match=r"0\.5\.16 is wanted, 0\.5\.99 answers"),
        start(tmp_path),
    ):
        pass


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with (
            pytest.raises(ServingError, match=f"port: {port} cannot be had"),
            start(tmp_path, port=port),
        ):
            pass


def test_a_missing_interpreter_is_named(tmp_path: Path) -> None:
    runtime = Runtime(python=tmp_path / "python3", site=FAKE_SITE)
    with (
        pytest.raises(ServingError, match=r"python3 cannot be started: .*No such file"),
        running(spec(), tmp_path / "log", runtime=runtime),
    ):
        pass


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_server_ends_with_its_starter(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE", "family")
    monkeypatch.setenv("FAKE_CHILD", str(tmp_path / "child"))
    command = [sys.executable, "-m", "marconi_core.serving", "serve", "--variant", "no_buffer"]
    command += ["--model", "nemotron_h_8b", "--site", str(FAKE_SITE), "--log", str(tmp_path / "l")]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # a test run in the background has inherited that Ctrl-C is ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as starter:
        assert starter.stdout is not None
        assert "http://127.0.0.1:" in starter.stdout.readline()
        child = int((tmp_path / "child").read_text())
        with (
            pytest.raises(ServingError, match=f"GPU 0 is in use by process {starter.pid} "),
            leased(["0"], "me"),
        ):
            pass
        os.kill(starter.pid, number)
        starter.wait(20)
    assert gone_within(child, 10)
    deadline = time.monotonic() + 5
    while True:  # the guard that held the GPU ends just after the last process
        try:
            with leased(["0"], "me"):
                break
        except ServingError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_a_server_that_ends_by_itself_is_an_error(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "marconi_core.serving", "serve", "--variant", "no_buffer"]
    command += ["--model", "nemotron_h_8b", "--site", str(FAKE_SITE), "--log", str(tmp_path / "l")]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "FAKE": "crash"},
    ) as starter:
        assert starter.stdout is not None
        address = starter.stdout.readline()
        port = int(address.partition("http://127.0.0.1:")[2].split()[0])
        with pytest.raises(ServingError):
            Client(port).generate([1, 2, 3])
        _, errors = starter.communicate(timeout=20)
    assert starter.returncode == 2
    [line] = [line for line in errors.splitlines() if line.startswith("marconi: ")]
    assert line.endswith(f"ended by itself with status 9; its log is {tmp_path / 'l'}")
    assert "Traceback" not in errors


def test_a_process_reports_its_status_and_last_lines(tmp_path: Path) -> None:
    code = "print('\\n'.join(map(str, range(100)))); raise SystemExit(7)"
    with Process([sys.executable, "-c", code], tmp_path / "log") as process:
        assert process.ended(within_s=10) and process.status == 7
        assert process.tail(2) == "98\n99"


# --- leases


def test_a_gpu_has_one_holder(tmp_path: Path) -> None:
    with leased(["0", "1"], "the first", 2):
        with pytest.raises(ServingError, match="GPU 1 is in use by the first"), leased(["1"], "x"):
            pass
        with leased(["2"], "another"):
            pass
    with leased(["1"], "x"):
        pass


def test_a_lease_file_that_may_not_be_opened_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Linux in a shared folder, where a file of another user may not be opened to be made."""
    opened, folder = os.open, tmp_path / "leases"
    with leased(["1"], "another user"):
        pass

    def refused(path: os.PathLike[str], flags: int, *mode: int) -> int:
        if flags & os.O_CREAT and Path(path).exists():
            raise PermissionError(13, "Permission denied")
        return opened(path, flags, *mode)

    monkeypatch.setattr("marconi_core.serving.lease.os.open", refused)
    with leased(["0", "1"], "me", 2):
        pass
    (folder / "gpu-0").unlink()
    (folder / "gpu-0").symlink_to(tmp_path / "somebody's file")
    with pytest.raises(ServingError, match=r"gpu-0: cannot be opened .* MARCONI_LEASES"):
        leased(["0"], "me").__enter__()


def nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *uuids: str) -> None:
    """Put a program of this name, which shows GPUs called A, B, C..., in front of others."""
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    shown = [
        {
            "index": str(n), "uuid": uuid, "name": "ABC"[n], "driver_version": "580.1",
            "memory.total": "143771 MiB", "clocks.max.sm": "1980 MHz", "power.limit": "700.00 W",
        }
        for n, uuid in enumerate(uuids)
    ]  # fmt: skip
    program.write_text(
        f"#!{sys.executable}\nimport sys\n"
        "[query] = [word for word in sys.argv if word.startswith('--query-gpu=')]\n"
        f"for gpu in {shown}:\n"
        "    print(', '.join(gpu[field] for field in query.partition('=')[2].split(',')))\n",
        encoding="utf-8",
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)


def test_a_gpu_has_one_holder_whatever_it_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvidia_smi(tmp_path, monkeypatch, "GPU-5ab1", "GPU-5c07")
    names = ("0", "GPU-5ab1", "GPU-5a")
    for first in names:
        with leased([first], "the first"):
            for second in names:
                with pytest.raises(ServingError, match=f"GPU {second} is in use by the first"):
                    leased([second], "x").__enter__()
            with leased(["1"], "another"), leased(["MIG-5ab1"], "a part of one"):
                pass
    assert Runtime().environment(spec(), {})["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"


def test_a_recording_names_the_gpus_that_its_server_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvidia_smi(tmp_path, monkeypatch, "GPU-5a", "GPU-5c")
    for visible, names in {"0": "A", "1": "B", "GPU-5c,0": "BA", "0,1": "AB"}.items():
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        with start(tmp_path, spec=spec(tensor_parallel=len(names))) as server:
            found = provenance(server, RUNTIME)["devices"]
            assert [gpu["name"] for gpu in found] == [*names]
            assert found[0]["driver_version"] == "580.1"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-5ab1")
    with start(tmp_path) as server:
        assert provenance(server, RUNTIME)["devices"] == [{"name": "MIG-5ab1"}]


def test_servers_take_the_gpus_that_are_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvidia_smi(tmp_path, monkeypatch, "GPU-5ab1", "GPU-5c07", "GPU-77")
    pair = spec(tensor_parallel=2)
    with start(tmp_path / "first", spec=pair) as first, start(tmp_path / "second") as second:
        assert (first.gpus, second.gpus) == (("0", "1"), ("2",))
        for server in (first, second):
            assert f"GPUs {','.join(server.gpus)}\n" in server.process.tail()
        with (
            pytest.raises(ServingError, match=r"GPU 0 is in .*; GPU 1 is .*; GPU 2 is .*; stop"),
            start(tmp_path / "third"),
        ):
            pass
    with leased(["1"], "somebody"), start(tmp_path / "fourth", spec=pair) as fourth:
        assert fourth.gpus == ("0", "2")


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("nemotron_h_8b", "nemotron-h-8b"),
        ("nvidia/Nemotron-H-8B-Base-8K", "nemotron-h-8b-base-8k"),
        ("/models/Mine/", "mine"),
    ],
)
def test_a_server_is_named_after_its_model(model: str, name: str) -> None:
    assert f", {name}, no_buffer" in ServerSpec.of({"variant": "no_buffer", "model": model}).label
    named = ServerSpec.of({"variant": "no_buffer", "model": model, "served_name": "other"})
    assert named.served_name == "other"


def test_visible_devices_name_the_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert gpus(2, {"CUDA_VISIBLE_DEVICES": "3, 4"}) == ("3", "4")
    for visible in ("3", ""):
        with pytest.raises(ServingError, match=f"2 GPUs are wanted, .*'{visible}' names"):
            gpus(2, {"CUDA_VISIBLE_DEVICES": visible})
    nvidia_smi(tmp_path, monkeypatch, "GPU-5a", "GPU-5c", "GPU-77")
    assert gpus(2, {}) == ("0", "1", "2")
    with pytest.raises(
        ServingError, match="tensor_parallel: 4 GPUs are wanted, nvidia-smi shows 3"
    ):
        gpus(4, {})


# --- what a server is asked


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with start(tmp_path) as server:
        yield server.client


def test_a_reply_has_times_and_cached_tokens(client: Client) -> None:
    prompt = list(range(1000))
    first = client.generate(prompt, 8)
    again = client.generate(prompt + [1])
    assert (first.prompt_tokens, first.cached_tokens, first.output_tokens) == (1000, 0, 8)
    assert 0 < first.ttft_s < first.total_s - 7 * 0.0015  # the fake sends a token every 2 ms
    assert first.output_ids == tuple(range(8))
    assert again.cached_tokens == 896 and again.ttft_s == again.total_s
    client.flush()
    assert client.generate(prompt + [1]).cached_tokens == 0


def test_failed_requests_say_why(client: Client) -> None:
    with pytest.raises(ServingError, match=r"/generate: HTTP 400 .*too long"):
        client.generate([1] * 40_000)
    with pytest.raises(ServingError, match="/nothing: HTTP 404 no such page"):
        client.get("/nothing")
    with pytest.raises(ServingError, match="/flush_cache: no JSON came back but b'flushed'"):
        client.json("/flush_cache", {})
    with pytest.raises(ServingError, match="ConnectionRefusedError"):
        Client(1).get("/health")


def test_a_stream_that_breaks_off_is_no_reply(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE", "broken_stream")
    with start(tmp_path) as server, pytest.raises(ServingError, match="broke off"):
        server.client.generate([1, 2, 3], 4)


def test_metrics_are_parsed() -> None:
    text = '# TYPE a gauge\na{x="1",y="q\\"z"} 2.5e3\nb 1 1700000000\nnot a sample\nc NaN_\n'
    assert parse_metrics(text) == [
        Sample("a", {"x": "1", "y": 'q\\"z'}, 2500.0), Sample("b", {}, 1.0),
    ]  # fmt: skip


# --- checklist


@pytest.mark.parametrize("variant", ["extra_buffer", "no_buffer", "no_cache"])
def test_the_checklist_passes(variant: str, tmp_path: Path) -> None:
    with start(tmp_path, spec=spec(variant=variant)) as server:
        checks = {check.name: check for check in smoke_test(server)}
    assert {name for name, check in checks.items() if check.passed is None} == {
        "completion", "chat completion",
    }  # fmt: skip
    assert all(check.passed is not False for check in checks.values()), render(checks.values())


def test_the_checklist_names_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with start(tmp_path, spec=spec(variant="no_cache")) as server:
        wrong = server._replace(spec=spec(variant="no_buffer", served_name="mine"))
        failed = {check.name: check.detail for check in smoke_test(wrong) if check.passed is False}
    assert set(failed) == {"models", "cache class", "prefix cache"}
    assert "expected UnifiedRadixCache" in failed["cache class"]


def test_the_command_line_tests_texts_and_writes_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer = tmp_path / "tokenizer.json"
    tokenizer.write_text('{"added_tokens": [{"content": "<s>"}]}')
    arguments = ["smoke", "--variant", "extra_buffer", "--model", "nemotron_h_8b", "--site"]
    arguments += [str(FAKE_SITE), "--log", str(tmp_path / "log"), "--output"]
    arguments += [str(tmp_path / "smoke.json"), "--set", f"tokenizer={tokenizer}"]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "ok  chat completion" in printed and "random weights" in printed
    assert '"weights": "random"' in (tmp_path / "smoke.json").read_text()
    assert main([*arguments, "max_total_tokens=no"]) == 2
    assert "max_total_tokens: Input should be a valid integer" in capsys.readouterr().err
