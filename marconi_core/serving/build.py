"""Builds the wheels of a server with Marconi: SGLang, the plug-in and this package.

``sglang_patch/vVERSION/sglang.txt`` pins the wheel of SGLang. Where ``patches`` lies beside it, the
wheel is patched, and the folder ``marconi`` is added to it; a release that loads plug-ins is left as it
was published. The same input gives the same wheels, byte for byte, with the same versions of zlib
and hatchling.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from marconi_core.files import sha256_file
from marconi_core.serving import wheels
from marconi_core.serving.bundle import Pin, pins
from marconi_core.serving.errors import BuildError

PATCHES = "sglang_patch"
"""Folder of the checkout with the plug-in and a folder for each release of SGLang."""

MANIFEST = "manifest.json"
REQUIREMENTS = "requirements.txt"
"""The built wheels with their digests: what ``pip install --require-hashes`` wants."""

ADDED = "sglang/srt/marconi"
OWN = {"marconi-artifact": ".", "marconi-sglang": PATCHES}
"""Our own packages by name, and where they are built."""

LOCAL_VERSION = "+marconi.1"
"""Of a patched SGLang."""

PYTHON, PLATFORMS = "3.12", ("manylinux_2_34_x86_64", "manylinux_2_28_x86_64")
"""What servers run on."""


def releases(checkout: Path = Path()) -> list[str]:
    """Return the releases of SGLang that a server can be built of."""
    return sorted(path.parent.name[1:] for path in checkout.glob(f"{PATCHES}/v*/sglang.txt"))


def build(
    release: str, out: Path, *, checkout: Path = Path(), wheel: Path | None = None
) -> dict[str, Any]:
    """Build a server's wheels and their manifest.

    Args:
        release: of SGLang, one of `releases`.
        out: folder for the wheels, `manifest.json` and `requirements.txt`; what an earlier build
            left there is replaced.
        checkout: root of the repository.
        wheel: SGLang's; fetched with pip if None.

    Returns:
        The manifest: versions, digests, and what was changed in SGLang.

    Raises:
        BuildError: why there is no server; `out` is left as it was.
    """
    if release not in releases(checkout):
        known = ", ".join(releases(checkout)) or "none: run this in the root of a checkout"
        raise BuildError(f"SGLang {release}: no such folder in {PATCHES}; there is {known}")
    folder = checkout / PATCHES / f"v{release}"
    (pin,) = pins(folder / "sglang.txt")
    _check_replaceable(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".partial-") as temporary:
        work, built = Path(temporary), Path(temporary) / "built"
        built.mkdir()
        wheel = wheel or _fetch(folder / "sglang.txt", pin, work)
        check(wheel, pin)
        manifest: dict[str, Any] = {
            "sglang": {"version": pin.version, "wheel": wheel.name, "sha256": pin.sha256}
        }
        if (folder / "patches").is_dir():
            manifest |= _patched(wheel, pin, folder, work / "source", built)
        else:
            shutil.copyfile(wheel, built / wheel.name)
        for name, source in OWN.items():
            wheels.build_project(name, checkout / source, built)
        manifest["wheels"] = {
            path.name: {"version": wheels.metadata(path)["Version"], "sha256": sha256_file(path)}
            for path in sorted(built.glob("*.whl"))
        }
        text = json.dumps(manifest, indent=1) + "\n"
        (built / MANIFEST).write_text(text, encoding="utf-8")
        (built / REQUIREMENTS).write_text(wheels.requirements(built), encoding="utf-8")
        shutil.rmtree(out, ignore_errors=True)
        built.rename(out)
    return manifest


def check(wheel: Path, pin: Pin) -> None:
    """Check that a wheel of SGLang is the pinned one.

    Raises:
        BuildError: it is another release, patched already, or another file.
    """
    found = str(wheels.metadata(wheel)["Version"])
    way_out = f"leave --wheel out to have sglang=={pin.version} fetched"
    if found == pin.version + LOCAL_VERSION:
        raise BuildError(f"{wheel}: SGLang {found} is patched already; {way_out}")
    if found != pin.version:
        raise BuildError(f"{wheel}: SGLang {found}, but {pin.version} is wanted; {way_out}")
    if (digest := sha256_file(wheel)) != pin.sha256:
        raise BuildError(
            f"{wheel}: not the published wheel of SGLang {pin.version} (SHA-256 {digest}, expected "
            f"{pin.sha256}); {way_out}"
        )


def apply(patch: Path, source: Path) -> list[str]:
    """Apply a patch to an unpacked wheel; return the files it changes.

    Raises:
        BuildError: it does not apply, or was applied before.
    """
    outcome = _git_apply(patch, source)
    if outcome.returncode:
        if not _git_apply(patch, source, "--reverse", "--check").returncode:
            raise BuildError(f"{patch.name} is applied already; start from the published wheel")
        lines = outcome.stderr.splitlines()
        reason = next((line for line in lines if line.startswith("error:")), "git failed")
        raise BuildError(
            f"{patch.name} does not apply: {reason}; restore the patch, or port it if it is for "
            "another release"
        )
    return re.findall(r"^\+\+\+ b/(\S+)$", patch.read_text(encoding="utf-8"), re.MULTILINE)


def _git_apply(patch: Path, source: Path, *options: str) -> subprocess.CompletedProcess[str]:
    # git must not take the folder for a part of a repository around it
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    environment["GIT_CEILING_DIRECTORIES"] = str(source.resolve().parent)
    command = ["git", "apply", *options, str(patch.resolve())]
    try:
        return subprocess.run(
            command, cwd=source, env=environment, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        raise BuildError("patches are applied with git, which is not installed") from None


def _fetch(requirements: Path, pin: Pin, folder: Path) -> Path:
    """Download SGLang's wheel."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    command += ["--only-binary", ":all:", "--python-version", PYTHON]
    command += [word for platform in PLATFORMS for word in ("--platform", platform)]
    command += ["--dest", str(folder), "--requirement", str(requirements)]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    if outcome.returncode:
        reason = (outcome.stderr.strip() or "pip gave no reason").splitlines()[-1]
        raise BuildError(
            f"sglang=={pin.version}: pip could not fetch the wheel ({reason}); check the package "
            "index, or name the wheel with --wheel"
        )
    (wheel,) = folder.glob("*.whl")
    return wheel


def _patched(wheel: Path, pin: Pin, folder: Path, source: Path, built: Path) -> dict[str, Any]:
    """Write the patched wheel of SGLang; return what the manifest says of it."""
    patches = sorted((folder / "patches").glob("*.patch"))
    wheels.unpack(wheel, source)
    before = wheels.hashes(source)
    changed = {file for patch in patches for file in apply(patch, source)}
    shutil.copytree(
        folder / "marconi", source / ADDED, ignore=shutil.ignore_patterns("__pycache__")
    )
    after = wheels.hashes(source)
    if unchanged := sorted(file for file in changed if before.get(file) == after[file]):
        raise BuildError(f"the patches left {', '.join(unchanged)} as it was")
    version = pin.version + LOCAL_VERSION
    wheels.mark_as_changed(source, version, list(OWN), [folder / "NOTICE"])
    wheels.pack(source, built / wheel.name.replace(pin.version, version))
    return {
        "patches": {patch.name: sha256_file(patch) for patch in patches},
        "changed": {f: {"before": before.get(f), "after": after[f]} for f in sorted(changed)},
        "added": {f: after[f] for f in sorted(after.keys() - before.keys() - changed)},
    }


def _check_replaceable(out: Path) -> None:
    """Refuse a folder that holds anything but an earlier build."""
    if out.is_dir() and any(out.iterdir()) and not (out / MANIFEST).is_file():
        raise BuildError(f"{out} is not empty and no earlier build; name another folder")
