"""Networks, servers and archives that give something else than the data."""

import hashlib
import http.server
import io
import lzma
import os
import random
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from marconi_core import datasets
from marconi_core.datasets import Dataset, UnavailableError, fetch
from marconi_core.errors import DataError, StorageError
from tests.faults.conftest import Mount

CONTENT = random.Random(0).randbytes(20_000).hex().encode()
MEMBER = "tiny_data/tiny.jsonl"
WHEEL = "tiny_data-1.0-py3-none-any.whl"
PORTAL = b"<!DOCTYPE html><html><body>Please accept our terms to use this network</body></html>"
WAY_OUT = "check the network, or set data_mirror to a folder that holds tiny.jsonl"


class Faulty(http.server.BaseHTTPRequestHandler):
    """Answers each path with what the server's `answers` has for it: content, and its length."""

    def do_GET(self) -> None:
        content, length = self.server.answers.get(self.path, (None, 0))  # type: ignore[attr-defined]
        if content is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(content)
        if len(content) < length and self.server.silent:  # type: ignore[attr-defined]
            self.server.silent.wait(30)  # type: ignore[attr-defined]

    def log_message(self, *_: object) -> None:
        pass


class Server:
    """A package index and file server of this machine, to be spoilt."""

    def __init__(self) -> None:
        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Faulty)
        self._http.answers = {}  # type: ignore[attr-defined]
        self._http.silent = None  # type: ignore[attr-defined]
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{self._http.server_port}"

    def serve(self, path: str, content: bytes, *, length: int | None = None) -> None:
        """Answer a path; `length` is what the server says, if not the truth."""
        self._http.answers[path] = (content, len(content) if length is None else length)  # type: ignore[attr-defined]

    def serve_wheel(
        self, content: bytes, sha256: str | None = None, length: int | None = None
    ) -> None:
        """Be an index with one package."""
        link = f"/{WHEEL}" + (f"#sha256={sha256}" if sha256 else "")
        page = f'<!DOCTYPE html><html><body><a href="{link}">{WHEEL}</a></body></html>'
        self.serve("/simple/tiny-data/", page.encode())
        self.serve(f"/{WHEEL}", content, length=length)

    def fall_silent(self) -> None:
        """Keep connections open after what there was to say."""
        self._http.silent = threading.Event()  # type: ignore[attr-defined]

    def close(self) -> None:
        if self._http.silent:  # type: ignore[attr-defined]
            self._http.silent.set()  # type: ignore[attr-defined]
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """The server that pip takes for the package index, and requests for example.org."""
    server = Server()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    for name, value in {
        "PIP_CONFIG_FILE": "/dev/null",
        "PIP_INDEX_URL": f"{server.address}/simple",
        "PIP_NO_CACHE_DIR": "1",
        "PIP_RETRIES": "0",
        "PIP_TIMEOUT": "2",
        "NO_PROXY": "127.0.0.1",
    }.items():
        monkeypatch.setenv(name, value)
    get = requests.get
    monkeypatch.setattr(
        requests,
        "get",
        lambda url, **options: get(url.replace("https://example.org", server.address), **options),
    )
    monkeypatch.setattr(datasets, "URL_TIMEOUT_S", 2.0)
    yield server
    server.close()


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., DataError]:
    """Fetch, be refused, and find nothing left; return the error."""

    def fetch_refused(source: str, mirror: Path | None = None, **fields: object) -> DataError:
        dataset = Dataset.model_validate(
            {
                "name": "tiny",
                "version": "1",
                "source": source,
                "member": MEMBER,
                "sha256": hashlib.sha256(CONTENT).hexdigest(),
                "bytes": len(CONTENT),
                "licence": "MIT",
                "needs": "",
                "note": "",
                **fields,
            }
        )
        monkeypatch.setattr(datasets, "registry", lambda: {"tiny": dataset})
        with pytest.raises(DataError, match=r"^tiny: ") as caught:
            fetch("tiny", tmp_path / "data", mirror)
        assert list((tmp_path / "data").iterdir()) == []
        assert "\n" not in str(caught.value)
        return caught.value

    return fetch_refused


def wheel(content: bytes, member: str = MEMBER) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        info = "tiny_data-1.0.dist-info"
        archive.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-data\nVersion: 1.0\n"
        )
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(member, content)
    return buffer.getvalue()


# --- the package index ------------------------------------------------------------------------

PACKAGE = "pypi:tiny-data==1.0"


def test_a_good_index_is_believed(server: Server, refused, tmp_path: Path) -> None:
    """The server of these tests can also do it right."""
    server.serve_wheel(wheel(CONTENT), hashlib.sha256(wheel(CONTENT)).hexdigest())
    error = refused(PACKAGE, sha256="0" * 64)
    assert "has another SHA-256 than 000" in str(error)
    assert "put the right file into the data_mirror folder as tiny.jsonl" in str(error)


def test_no_network(server: Server, refused, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    error = refused(PACKAGE)
    assert isinstance(error, UnavailableError) and WAY_OUT in str(error)


@pytest.mark.parametrize("fault", ["cut off", "silent", "other hash", "web page", "portal"])
def test_an_index_that_gives_something_else(server: Server, refused, fault: str) -> None:
    good = wheel(CONTENT)
    if fault == "cut off":
        server.serve_wheel(good[:5000], length=len(good))
    elif fault == "silent":
        server.fall_silent()
        server.serve_wheel(good[:5000], length=len(good))
    elif fault == "other hash":
        server.serve_wheel(good, "0" * 64)
    elif fault == "web page":
        server.serve_wheel(PORTAL)
    else:  # the network's own page, whatever is asked for
        server.serve("/simple/tiny-data/", PORTAL)
    error = refused(PACKAGE)
    assert isinstance(error, UnavailableError) and WAY_OUT in str(error)


# --- URLs -------------------------------------------------------------------------------------

URL = "https://example.org/tiny.jsonl"


@pytest.mark.parametrize("fault", ["cut off", "silent", "gone"])
def test_a_url_that_cannot_be_had(server: Server, refused, fault: str) -> None:
    if fault == "silent":
        server.fall_silent()
    if fault != "gone":
        server.serve("/tiny.jsonl", CONTENT[:5000], length=len(CONTENT))
    started = time.monotonic()
    error = refused(URL)
    assert isinstance(error, UnavailableError) and WAY_OUT in str(error)
    assert time.monotonic() - started < 20


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (PORTAL, "a web page instead of the data"),
        (CONTENT[:5000], r"5000 bytes instead of 40000 \(cut off\?\)"),
        (CONTENT + b"\n", "more than 40000 bytes"),
        (CONTENT[::-1], "another SHA-256"),
    ],
)
def test_a_url_that_gives_something_else(
    server: Server, refused, content: bytes, found: str
) -> None:
    server.serve("/tiny.jsonl", content)
    error = refused(URL)
    assert not isinstance(error, UnavailableError)
    assert f"{URL} has {found}".replace("\\", "") in str(error)


# --- archives ---------------------------------------------------------------------------------


@pytest.fixture
def archive(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str, bytes], None]:
    """Let pip have downloaded this archive."""

    def downloaded(name: str, content: bytes) -> None:
        path = tmp_path / name
        path.write_bytes(content)
        monkeypatch.setattr(datasets, "_download_package", lambda *_, **__: path)

    return downloaded


def tar(*members: tarfile.TarInfo, content: bytes = CONTENT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for member in members:
            member.size = len(content) if member.isfile() else 0
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


@pytest.mark.parametrize(
    "member",
    [
        entry(f"../{MEMBER}"),
        entry(f"/{MEMBER}"),
        entry(MEMBER, tarfile.SYMTYPE, "/etc/passwd"),
        entry(MEMBER, tarfile.SYMTYPE, "../../../etc/passwd"),
        entry(MEMBER, tarfile.LNKTYPE, "/etc/passwd"),
        entry(MEMBER, tarfile.SYMTYPE, MEMBER),
        entry(MEMBER, tarfile.DIRTYPE),
        entry(MEMBER, tarfile.FIFOTYPE),
        entry(MEMBER, tarfile.CHRTYPE),
    ],
    ids=lambda member: f"{member.name} {member.type!r} {member.linkname}",
)
def test_source_archives_reach_nothing_outside(archive, refused, tmp_path: Path, member) -> None:
    archive("tiny-1.0.tar.gz", tar(member))
    error = refused("pypi-sdist:tiny-data==1.0")
    assert f"tiny-1.0.tar.gz is damaged or lacks {MEMBER}" in str(error)
    assert {path.name for path in tmp_path.iterdir()} == {"tiny-1.0.tar.gz", "data"}


@pytest.mark.parametrize("name", [f"../{MEMBER}", f"/{MEMBER}", f"./{MEMBER}/../../{MEMBER}"])
def test_wheels_reach_nothing_outside(archive, refused, tmp_path: Path, name: str) -> None:
    archive(WHEEL, wheel(CONTENT, name))
    assert f"{WHEEL} is damaged or lacks {MEMBER}" in str(refused(PACKAGE))
    assert {path.name for path in tmp_path.iterdir()} == {WHEEL, "data"}


@pytest.mark.parametrize("position", [0.1, 0.3, 0.5, 0.7, 0.9])
@pytest.mark.parametrize("name", [WHEEL, "tiny-1.0.tar.gz"])
def test_damaged_archives(archive, refused, name: str, position: float) -> None:
    """Sixteen bytes somewhere in an archive are others."""
    content = bytearray(wheel(CONTENT) if name == WHEEL else tar(entry(MEMBER)))
    at = int(position * len(content))
    content[at : at + 16] = bytes(~byte & 255 for byte in content[at : at + 16])
    archive(name, bytes(content))
    error = refused("pypi-sdist:tiny-data==1.0" if name != WHEEL else PACKAGE)
    assert f"{name} is damaged" in str(error) or "another SHA-256" in str(error)


def test_archives_that_burst_are_read_no_further_than_needed(
    archive, refused, disk: Mount, tmp_path: Path
) -> None:
    """A gigabyte of zeros packs into a megabyte; here it finds a small disk."""
    (tmp_path / "data").symlink_to(disk("size=1m"), target_is_directory=True)
    zeros = bytes(100_000_000)
    archive(WHEEL, wheel(zeros))
    assert "has more than 40000 bytes" in str(refused(PACKAGE))
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    (mirror / "tiny.jsonl.xz").write_bytes(lzma.compress(zeros, preset=0))
    assert "has more than 40000 bytes" in str(refused(PACKAGE, mirror))


def test_a_full_disk_is_not_blamed_on_the_archive(archive, disk: Mount, refused, tmp_path) -> None:
    (tmp_path / "data").symlink_to(disk("size=20k"), target_is_directory=True)
    archive(WHEEL, wheel(CONTENT))
    with pytest.raises(StorageError, match="No space left on device"):
        refused(PACKAGE)
    assert list((tmp_path / "data").iterdir()) == []
