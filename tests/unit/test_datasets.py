"""The registry, and fetching from mirrors, packages and URLs with every way it can go wrong."""

import hashlib
import io
import json
import lzma
import tarfile
import zipfile
from pathlib import Path

import pytest
import requests

from marconi_core import datasets
from marconi_core.datasets import Dataset, UnavailableError, fetch, registry
from marconi_core.errors import DataError

CONTENT = b"the data set\n" * 100


def entry(name: str = "tiny", content: bytes = CONTENT, **fields: object) -> Dataset:
    defaults: dict[str, object] = {
        "version": "1",
        "source": "pypi:tiny-data==1.0",
        "member": "tiny_data/data/tiny.jsonl",
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "licence": "MIT",
        "needs": "",
        "note": "",
    }
    return Dataset.model_validate({"name": name, **defaults, **fields})


@pytest.fixture
def register(monkeypatch):
    """Replace the registry by the given entries."""

    def use(*entries: Dataset) -> None:
        monkeypatch.setattr(datasets, "registry", lambda: {e.name: e for e in entries})

    return use


@pytest.fixture
def no_network(monkeypatch):
    """Point pip at a closed port, without its cache and the user's configuration."""
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)


@pytest.fixture
def package_folder(monkeypatch, tmp_path):
    """A folder that pip takes packages from instead of an index."""
    folder = tmp_path / "packages"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def write_wheel(folder: Path, members: dict[str, bytes]) -> Path:
    info = "tiny_data-1.0.dist-info"
    path = folder / "tiny_data-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-data\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        for name, content in members.items():
            wheel.writestr(name, content)
    return path


def test_registry_is_valid_and_pins_what_the_sources_need():
    entries = registry()
    assert {"sharegpt", "llama2_vocab", "swebench", "tau_airline"} <= entries.keys()
    for dataset in entries.values():
        assert set(dataset.needs) <= entries.keys()
    assert entries["sharegpt"].needs == ("llama2_vocab",)
    assert entries["sharegpt"].filename == "ShareGPT_V3_unfiltered_cleaned_split.json"


def test_registry_names_the_row_and_column_that_is_wrong(tmp_path):
    path = tmp_path / "datasets.csv"
    header = "name,version,source,member,sha256,bytes,licence,needs,note\n"
    path.write_text(f"{header}tiny,1,pypi:a==1,a.json,{'0' * 64},many,MIT,,\n")
    with pytest.raises(DataError, match=r"datasets\.csv:2: column 'bytes'"):
        registry(path)
    row = f"tiny,1,pypi:a==1,a.json,{'0' * 64},1,MIT,,\n"
    path.write_text(header + row + row)
    with pytest.raises(DataError, match=r"datasets\.csv:3: the name 'tiny' is used twice"):
        registry(path)
    with pytest.raises(DataError, match="cannot be read"):
        registry(tmp_path / "absent.csv")


def test_unknown_name_lists_the_valid_ones():
    with pytest.raises(DataError, match=r"unknown data set 'sharegtp'.*sharegpt"):
        datasets.lookup("sharegtp")


@pytest.mark.parametrize("packed", [False, True])
def test_mirror_comes_first_and_a_good_file_is_kept(register, tmp_path, packed):
    register(entry())
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    if packed:
        (mirror / "tiny.jsonl.xz").write_bytes(lzma.compress(CONTENT))
    else:
        (mirror / "tiny.jsonl").write_bytes(CONTENT)
    path = fetch("tiny", tmp_path / "data", mirror)
    assert path == datasets.local_path("tiny", tmp_path / "data")
    assert path.read_bytes() == CONTENT
    before = path.stat().st_mtime_ns
    assert fetch("tiny", tmp_path / "data", tmp_path / "absent").stat().st_mtime_ns == before


def test_a_wrong_file_in_the_data_folder_is_replaced(register, tmp_path):
    register(entry())
    (tmp_path / "tiny.jsonl").write_bytes(b"garbage")
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    (mirror / "tiny.jsonl").write_bytes(CONTENT)
    assert fetch("tiny", tmp_path, mirror).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (CONTENT[:-1], r"1299 bytes instead of 1300 \(cut off\?\)"),
        (CONTENT + b"\n", "more than 1300 bytes"),
        (CONTENT.replace(b"set", b"sex"), "another SHA-256"),
        (b"<!DOCTYPE html><html>Quota exceeded</html>", "a web page instead of the data"),
    ],
)
def test_wrong_content_is_refused_and_leaves_nothing(register, tmp_path, found, message):
    register(entry())
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    (mirror / "tiny.jsonl").write_bytes(found)
    with pytest.raises(DataError, match=message) as caught:
        fetch("tiny", tmp_path / "data", mirror)
    assert not isinstance(caught.value, UnavailableError)
    assert list((tmp_path / "data").iterdir()) == []


def test_broken_and_missing_mirrors(register, tmp_path):
    register(entry(source="manual:https://example.org/made-by-hand"))
    with pytest.raises(DataError, match="is not a folder"):
        fetch("tiny", tmp_path / "data", tmp_path / "absent")
    with pytest.raises(UnavailableError, match=r"set data_mirror to a folder with tiny\.jsonl"):
        fetch("tiny", tmp_path / "data")
    (tmp_path / "tiny.jsonl.xz").write_bytes(lzma.compress(CONTENT)[:-20])
    with pytest.raises(DataError, match="cannot be read"):
        fetch("tiny", tmp_path / "data", tmp_path)
    assert list((tmp_path / "data").iterdir()) == []


def test_wheel_from_the_package_index(register, package_folder, tmp_path):
    register(entry())
    write_wheel(package_folder, {"tiny_data/data/tiny.jsonl": CONTENT})
    assert fetch("tiny", tmp_path / "data").read_bytes() == CONTENT


def test_wheel_without_the_member(register, package_folder, tmp_path):
    register(entry())
    write_wheel(package_folder, {"tiny_data/other": b""})
    with pytest.raises(DataError, match=r"lacks tiny_data/data/tiny\.jsonl"):
        fetch("tiny", tmp_path / "data")


def test_no_network(register, no_network, tmp_path):
    register(entry())
    with pytest.raises(UnavailableError, match=r"cannot be downloaded .* check the network"):
        fetch("tiny", tmp_path / "data")
    assert list((tmp_path / "data").iterdir()) == []


def test_source_archive(register, monkeypatch, tmp_path):
    register(entry(source="pypi-sdist:tiny-data==1.0", member="tiny-1.0/tiny.jsonl"))
    archive = tmp_path / "tiny-1.0.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        info = tarfile.TarInfo("tiny-1.0/tiny.jsonl")
        info.size = len(CONTENT)
        tar.addfile(info, io.BytesIO(CONTENT))
    monkeypatch.setattr(datasets, "_download_package", lambda *args, **kwargs: archive)
    assert fetch("tiny", tmp_path / "data").read_bytes() == CONTENT
    archive.write_bytes(archive.read_bytes()[:40])
    with pytest.raises(DataError, match=r"tiny-1\.0\.tar\.gz is damaged"):
        fetch("tiny", tmp_path / "other")


def test_url(register, monkeypatch, tmp_path):
    register(entry(source="https://example.org/tiny.jsonl", member="tiny.jsonl"))
    original = tmp_path / "original"
    original.write_bytes(CONTENT)
    monkeypatch.setattr(datasets.pooch, "retrieve", lambda *args, **kwargs: str(original))
    assert fetch("tiny", tmp_path / "data").read_bytes() == CONTENT

    def refuse(*args, **kwargs):
        raise requests.ConnectionError("retried, and retried")

    monkeypatch.setattr(datasets.pooch, "retrieve", refuse)
    with pytest.raises(UnavailableError, match=r"\(no connection to its server\); check the net"):
        fetch("tiny", tmp_path / "other")


def test_url_is_gone(register, monkeypatch, tmp_path):
    register(entry(source="https://example.org/tiny.jsonl", member="tiny.jsonl"))

    def refuse(*args, **kwargs):
        raise requests.HTTPError("404 Client Error")

    monkeypatch.setattr(datasets.pooch, "retrieve", refuse)
    with pytest.raises(UnavailableError, match="404 Client Error"):
        fetch("tiny", tmp_path / "other")


def test_tau_bench_is_repacked(register, monkeypatch, tmp_path):
    message = {"role": "assistant", "content": "caf\u00e9"}
    packed = "".join(
        json.dumps({"task_id": task, "trial": trial, "messages": [message]}) + "\n"
        for trial in (0, 1)
        for task in (0, 1)
    ).encode()
    register(
        entry("tau_airline", packed, source="https://example.org/original.json", member="tau.jsonl")
    )
    original = tmp_path / "original.json"
    dialogues = [
        {"task_id": task, "reward": 1.0, "traj": [{**message, "tool_calls": None}], "trial": trial}
        for task in (1, 0)
        for trial in (0, 1)
    ]
    original.write_text(json.dumps(dialogues))
    monkeypatch.setattr(datasets.pooch, "retrieve", lambda *args, **kwargs: str(original))
    assert fetch("tau_airline", tmp_path / "data").read_bytes() == packed
    original.write_text("<html>404</html>")
    with pytest.raises(DataError, match="is not the JSON expected there"):
        fetch("tau_airline", tmp_path / "other")
