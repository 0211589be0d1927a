"""Who reaches a server, whose code it runs, and where tokens must not end up."""

import argparse
import gzip
import lzma
import re
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from marconi_core.cli import main as marconi
from marconi_core.serving.__main__ import main as serving
from marconi_core.serving.errors import ServingError
from marconi_core.serving.simulated.flags import command_line
from marconi_core.serving.spec import SECRET_FLAGS, VARIANTS, Runtime, ServerSpec
from marconi_core.traces.trace import Request, Trace
from tests.planted import SECRET, holders, plant


@pytest.mark.parametrize("variant", VARIANTS)
def test_servers_listen_on_this_machine_and_run_no_code_of_models(variant: str) -> None:
    spec = ServerSpec.of({"variant": variant, "model": "nvidia/Nemotron-H-8B-Base-8K"})
    command = Runtime().command(spec, 30000)
    assert command[command.index("--host") + 1] == "127.0.0.1" and command.count("--host") == 1
    assert not any("trust" in word for word in command)


@pytest.mark.parametrize("flags", [["--host", "0.0.0.0"], ["--host=0.0.0.0"]])
def test_a_measured_server_cannot_be_opened_to_others(flags: list[str]) -> None:
    with pytest.raises(ServingError, match=r"--host\S* has a field of its own"):
        ServerSpec.of({"variant": "marconi", "model": "m", "extra_flags": flags})


def test_the_simulated_server_listens_on_this_machine() -> None:
    options: argparse.Namespace = command_line().parse_args(["--model-path", "x"])
    assert options.host == "127.0.0.1"


@pytest.mark.sources
def test_nobody_asks_for_code_of_models(repository: Path) -> None:
    places = [*repository.glob("*.yaml"), repository / "Dockerfile"]
    for folder in ("marconi_core", "sglang_patch", "workflow", "profiles", "deploy"):
        places += [path for path in (repository / folder).rglob("*") if path.is_file()]
    asks = re.compile(rb"trust[_-]remote[_-]code\s*[=:]\s*[Tt]rue|--trust-remote-code")
    assert [path.name for path in places if asks.search(path.read_bytes())] == []


@pytest.mark.parametrize("flag", SECRET_FLAGS)
@pytest.mark.parametrize("joined", [True, False])
def test_secrets_are_no_flags(flag: str, joined: bool) -> None:
    flags = [f"{flag}={SECRET}"] if joined else [flag, SECRET]
    with pytest.raises(ServingError, match="would be recorded") as refusal:
        ServerSpec.of({"variant": "marconi", "model": "m", "extra_flags": flags})
    assert SECRET not in str(refusal.value)


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "trace.npz"
    Trace.build(Request(0, turn, turn, [1, 2, 3] * (turn + 1), [4]) for turn in range(4)).save(path)
    return path


def test_live_measurements_tell_no_tokens(
    trace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    plant(monkeypatch)
    out = tmp_path / "out"
    server = ["--variant", "marconi", "--model", "nemotron_h_8b", "--log", str(out / "server.log")]
    server += ["--set", "server=simulated", "alpha=1", "extra_flags=--simulated-speed 50"]
    replay = ["replay", "--trace", str(trace), "--concurrency", "1", "--output"]
    assert serving([*replay, str(out / "whole"), *server]) == 0
    server[-1] += " --simulated-fault die@2"
    assert serving([*replay, str(out / "broken"), *server]) == 2
    printed = capfd.readouterr()
    assert "ended with status" in printed.err and SECRET not in printed.out + printed.err
    assert {path.suffix for path in out.rglob("*")} >= {".json", ".csv", ".log"}
    assert holders(out) == []


def test_simulations_tell_no_tokens(
    trace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    plant(monkeypatch)
    out = tmp_path / "out"
    words = [str(trace), "--capacities", "1e9", "--output", str(out)]
    assert marconi(["sweep", *words]) == 0
    assert (
        marconi(["simulate", str(trace), "--policy", "marconi", "--capacity", "1e9", "--json"]) == 0
    )
    printed = capfd.readouterr()
    assert SECRET not in printed.out + printed.err
    assert holders(out) == []


def test_a_planted_token_would_be_found(tmp_path: Path) -> None:
    """The search looks into everything that results are written to."""
    text = f"key: {SECRET}\n"
    (tmp_path / "a.log").write_text(text)
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(text.encode()))
    (tmp_path / "a.xz").write_bytes(lzma.compress(text.encode()))
    pd.DataFrame({"key": [SECRET]}).to_parquet(tmp_path / "a.parquet")
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("format.npy", text)
    (tmp_path / "innocent.csv").write_text("a,b\n")
    assert holders(tmp_path) == ["a.json.gz", "a.log", "a.npz", "a.parquet", "a.xz"]
