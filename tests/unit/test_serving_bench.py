"""SGLang's load generator, run against a package named like SGLang."""

import json
from pathlib import Path

import pytest

from marconi_core.serving.__main__ import main

FAKE_SITE = Path(__file__).parent / "fake_sglang"


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("MARCONI_LEASES", str(tmp_path / "leases"))
    tokenizer = tmp_path / "tokenizer.json"
    tokenizer.write_text('{"added_tokens": []}', encoding="utf-8")
    return [
        "bench", "--variant", "extra_buffer", "--model", "nemotron_h_8b", "--site", str(FAKE_SITE),
        "--log", str(tmp_path / "server.log"), "--output", str(tmp_path / "bench.json"),
        "--groups", "3", "--prompts", "2", "--set", f"tokenizer={tokenizer}",
    ]  # fmt: skip


def test_results_are_kept_with_their_provenance(words: list[str], tmp_path: Path) -> None:
    assert main(words) == 0
    found = json.loads((tmp_path / "bench.json").read_text())
    assert found["results"]["completed"] == 6
    assert found["results"]["median_ttft_ms"] == 12.5
    assert "unused" not in found["results"]
    assert found["spec"]["variant"] == "extra_buffer"
    assert (tmp_path / "bench.sglang.jsonl").is_file()


@pytest.mark.parametrize(
    ("fault", "message"),
    [("die", "ended with 1:\nValueError: no such data set"), ("lose", "5 of 6 requests")],
)
def test_a_failed_load_is_no_result(
    fault: str,
    message: str,
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("FAKE_BENCH", fault)
    assert main(words) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "bench.json").exists()


def test_texts_need_a_tokenizer(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words[:-1], "served_name=model"]) == 2
    assert "--set tokenizer=FOLDER" in capsys.readouterr().err
