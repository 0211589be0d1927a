"""Wheels taken apart, changed and put together again, always to the same bytes."""

import base64
import csv
import hashlib
import io
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Sequence
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path

from marconi_core.files import sha256_file
from marconi_core.serving.errors import BuildError

TIME = 1_767_225_600
"""Of every packed file: 2026-01-01, older than any compiled kernel."""


def metadata(wheel: Path) -> Message:
    """Return the metadata of a wheel.

    Raises:
        BuildError: it is no wheel.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
            return HeaderParser().parsestr(archive.read(name).decode())
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise BuildError(f"{wheel}: not a wheel ({error})") from None


def requirements(folder: Path) -> str:
    """Return the wheels of a folder as lines ``NAME==VERSION --hash=sha256:DIGEST``."""
    lines = []
    for wheel in sorted(folder.glob("*.whl")):
        described = metadata(wheel)
        pin = f"{described['Name']}=={described['Version']}"
        lines.append(f"{pin} --hash=sha256:{sha256_file(wheel)}\n")
    return "".join(lines)


def unpack(wheel: Path, folder: Path) -> None:
    """Unpack a wheel into a folder."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)


def hashes(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file below a folder."""
    return {name: sha256_file(folder / name) for name in _files(folder)}


def mark_as_changed(
    folder: Path, version: str, requires: Sequence[str], notices: Sequence[Path]
) -> None:
    """Give an unpacked wheel another version, more requirements and more licence files."""
    (info,) = folder.glob("*.dist-info")
    old = info.name.removesuffix(".dist-info").partition("-")[2]
    path = info / "METADATA"
    text = path.read_text(encoding="utf-8")
    text = text.replace(f"\nVersion: {old}\n", f"\nVersion: {version}\n", 1)
    for header, values in (
        ("Requires-Dist", requires),
        ("License-File", [notice.name for notice in notices]),
    ):
        lines = "".join(f"{header}: {value}\n" for value in values)
        text = text.replace(f"\n{header}:", f"\n{lines}{header}:", 1)
    path.write_text(text, encoding="utf-8")
    for notice in notices:
        (info / "licenses" / notice.name).write_bytes(notice.read_bytes())
    info.rename(info.with_name(info.name.replace(old, version)))


def pack(folder: Path, wheel: Path) -> None:
    """Pack a folder into a wheel, with a new RECORD."""
    (record,) = folder.glob("*.dist-info/RECORD")
    own = record.relative_to(folder).as_posix()
    names = [*(name for name in _files(folder) if name != own), own]
    rows = io.StringIO()
    writer = csv.writer(rows, lineterminator="\n")
    for name in names[:-1]:
        content = (folder / name).read_bytes()
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=")
        writer.writerow([name, f"sha256={digest.decode()}", len(content)])
    writer.writerow([own, "", ""])
    record.write_text(rows.getvalue(), encoding="utf-8")
    date = time.gmtime(TIME)
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in names:
            entry = zipfile.ZipInfo(name, date[:6])
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, (folder / name).read_bytes(), zipfile.ZIP_DEFLATED)


def _files(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def build_project(name: str, source: Path, built: Path) -> None:
    """Write the wheel of a project that hatchling builds into a folder, without network.

    Raises:
        BuildError: hatchling's reason.
    """
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel"]
    command += ["--directory", str(built.resolve())]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(TIME)}
    outcome = subprocess.run(
        command, cwd=source, env=environment, capture_output=True, text=True, check=False
    )
    if outcome.returncode:
        reason = (outcome.stderr.strip() or "hatchling gave no reason").splitlines()[-1]
        raise BuildError(
            f"{name}: hatchling could not build the wheel ({reason}); it must be installed where "
            "this runs, as `make` does it"
        )
