"""Builds an installable wheel of SGLang 0.5.6.post2 with Marconi's patches.

    python sglang_patch/v0.5.6.post2/build.py FOLDER [--wheel FILE]

Fetches the pinned wheel with pip (or takes FILE), checks its hash, applies the patches to a clean
copy, adds the folder `marconi`, and writes to FOLDER the new wheel, `manifest.json` (versions,
hashes, files changed) and the unpacked `source`. The same input gives the same wheel, byte for byte,
with the same version of zlib.
"""

import argparse
import base64
import csv
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from email.parser import HeaderParser
from pathlib import Path
from typing import Any

from marconi_core.errors import DataError, MarconiError
from marconi_core.files import sha256_file

HERE = Path(__file__).parent
ADDED = "sglang/srt/marconi"
REQUIRED = ("marconi-artifact", "marconi-sglang")
LOCAL_VERSION = "+marconi.1"
DATE = (2025, 12, 11, 0, 0, 0)
"""Of all files in the new wheel."""


class BuildError(MarconiError):
    """The patched wheel cannot be built."""


def pinned(requirement: Path = HERE / "sglang.txt") -> tuple[str, str]:
    """Return version and SHA-256 of the wheel that the patches are for."""
    found = re.search(r"^sglang==(\S+) --hash=sha256:(\w+)$", requirement.read_text(), re.M)
    if found is None:
        raise BuildError(f"{requirement}: no line 'sglang==VERSION --hash=sha256:HASH'")
    return found[1], found[2]


def fetch(folder: Path) -> Path:
    """Download the pinned wheel.

    Raises:
        DataError: pip could not fetch it, or got another file.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    command += ["--only-binary", ":all:", "--dest", str(folder), "-r", str(HERE / "sglang.txt")]
    outcome = subprocess.run(command, capture_output=True, text=True)
    if outcome.returncode:
        reason = (outcome.stderr.strip() or "pip gave no reason").splitlines()[-1]
        raise DataError(f"sglang=={pinned()[0]}: pip could not fetch the wheel: {reason}")
    (wheel,) = folder.glob("*.whl")
    return wheel


def check_wheel(wheel: Path) -> None:
    """Check that a wheel is the pinned one.

    Raises:
        BuildError: it is another release, or another file.
    """
    version, sha256 = pinned()
    try:
        with zipfile.ZipFile(wheel) as archive:
            (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
            found = HeaderParser().parsestr(archive.read(name).decode())["Version"]
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise BuildError(f"{wheel}: not a wheel ({error})") from None
    if found != version:
        raise BuildError(
            f"{wheel}: SGLang {found}; the patches are for {version}: pip download --no-deps "
            f"sglang=={version}"
        )
    if sha256_file(wheel) != sha256:
        raise BuildError(
            f"{wheel}: not the published wheel of SGLang {version} (SHA-256 {sha256_file(wheel)}, "
            f"expected {sha256}); leave --wheel out to have it fetched"
        )


def apply(patch: Path, source: Path) -> list[str]:
    """Apply a patch to an unpacked wheel; return the files it changes.

    Raises:
        BuildError: it does not apply.
    """
    # git must not take the folder for a part of a repository around it
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    environment["GIT_CEILING_DIRECTORIES"] = str(source.resolve().parent)
    outcome = subprocess.run(
        ["git", "apply", "--verbose", str(patch.resolve())],
        cwd=source,
        env=environment,
        capture_output=True,
        text=True,
    )
    if outcome.returncode:
        reason = next(
            (x for x in outcome.stderr.splitlines() if x.startswith("error:")), "git failed"
        )
        raise BuildError(
            f"{patch.name} does not apply to SGLang {pinned()[0]}: {reason}; restore the patch, or "
            "port it if the release changed"
        )
    return re.findall(r"^\+\+\+ b/(\S+)$", patch.read_text(), re.M)


def build(
    out: Path, wheel: Path | None = None, patches: Sequence[Path] | None = None
) -> dict[str, Any]:
    """Build the patched wheel in `out`; return the manifest.

    Raises:
        BuildError, DataError: see there; `out` is left as it was.
    """
    version = pinned()[0]
    patches = sorted((HERE / "patches").glob("*.patch")) if patches is None else patches
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        wheel = fetch(work) if wheel is None else wheel
        check_wheel(wheel)
        source = work / "source"
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(source)
        before = hashes(source)
        changed = {file for patch in patches for file in apply(patch, source)}
        shutil.copytree(
            HERE / "marconi", source / ADDED, ignore=shutil.ignore_patterns("__pycache__")
        )
        after = hashes(source)
        if unchanged := sorted(file for file in changed if before[file] == after[file]):
            raise BuildError(f"the patches left {', '.join(unchanged)} as it was")
        info = source / f"sglang-{version}.dist-info"
        rename(info, version)
        new = work / wheel.name.replace(version, version + LOCAL_VERSION)
        pack(source, new)
        manifest = {
            "sglang": {"version": version, "wheel": wheel.name, "sha256": sha256_file(wheel)},
            "result": {
                "version": version + LOCAL_VERSION,
                "wheel": new.name,
                "sha256": sha256_file(new),
                "requires": list(REQUIRED),
            },
            "patches": {patch.name: sha256_file(patch) for patch in patches},
            "changed": {f: {"before": before[f], "after": after[f]} for f in sorted(changed)},
            "added": {f: after[f] for f in sorted(after.keys() - before.keys())},
        }
        out.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(out / "source", ignore_errors=True)
        shutil.move(source, out / "source")
        shutil.move(new, out / new.name)
        (out / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    return manifest


def hashes(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file below a folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in files}


def rename(info: Path, version: str) -> None:
    """Mark the metadata as those of a changed SGLang that needs Marconi's packages."""
    metadata = info / "METADATA"
    text = metadata.read_text(encoding="utf-8")
    text = text.replace(f"\nVersion: {version}\n", f"\nVersion: {version}{LOCAL_VERSION}\n", 1)
    needs = "".join(f"Requires-Dist: {name}\n" for name in REQUIRED)
    metadata.write_text(
        text.replace("Requires-Dist:", f"{needs}Requires-Dist:", 1), encoding="utf-8"
    )
    info.rename(info.with_name(f"sglang-{version}{LOCAL_VERSION}.dist-info"))


def pack(source: Path, wheel: Path) -> None:
    """Pack a folder into a wheel, with a new RECORD."""
    (record,) = source.glob("*.dist-info/RECORD")
    names = sorted(p.relative_to(source).as_posix() for p in source.rglob("*") if p.is_file())
    rows = io.StringIO()
    writer = csv.writer(rows, lineterminator="\n")
    own = record.relative_to(source).as_posix()
    for name in names:
        if name != own:
            content = (source / name).read_bytes()
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=")
            writer.writerow([name, f"sha256={digest.decode()}", len(content)])
    writer.writerow([own, "", ""])
    record.write_text(rows.getvalue(), encoding="utf-8")
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in [*(n for n in names if n != own), own]:
            entry = zipfile.ZipInfo(name, DATE)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, (source / name).read_bytes(), zipfile.ZIP_DEFLATED)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="where to write wheel, manifest and source")
    parser.add_argument("--wheel", type=Path, help="SGLang's wheel; fetched with pip if left out")
    options = parser.parse_args()
    try:
        manifest = build(options.folder, options.wheel)
    except MarconiError as error:
        raise SystemExit(str(error)) from None
    print(options.folder / manifest["result"]["wheel"])


if __name__ == "__main__":
    main()
