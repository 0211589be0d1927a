"""SGLang's environment for GPU nodes without network: pack here, unpack there, keep compiled kernels.

``resources/sglang-VERSION`` says what travels. A bundle is a folder: ``site.tar.xz`` (the packages),
``kernels.tar.xz`` (optional; kernels that an earlier server compiled) and ``bundle.json`` (digests, and
what the node must have itself). Packing the same wheels again gives the same bytes. Only the standard
library is needed, because a bare Python unpacks.
"""

import fnmatch
import importlib.metadata
import json
import logging
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from marconi_core.assets import resource
from marconi_core.files import atomic_path, sha256_file
from marconi_core.serving.errors import BundleError
from marconi_core.serving.wheels import TIME, build_project

logger = logging.getLogger(__name__)

MANIFEST = "bundle.json"
SITE_ARCHIVE = "site.tar.xz"
KERNEL_ARCHIVE = "kernels.tar.xz"
MARKER = ".marconi-bundle"  # in an unpacked folder: digest of the archive it came from

PIN = re.compile(r"^(?P<name>[\w.-]+)==(?P<version>\S+)\s+--hash=sha256:(?P<sha256>[0-9a-f]{64})$")
# manylinux tags that wheels use; pip takes only tags that are spelled out
GLIBC_MINORS = (39, 35, 34, 31, 28, 27, 26, 24, 17, 12, 5)
LEGACY_TAGS = ("manylinux2014", "manylinux2010", "manylinux1")


class Pin(NamedTuple):
    """One wheel that travels."""

    name: str
    version: str
    sha256: str


def pins(requirements: Path) -> list[Pin]:
    """Return the pinned wheels of a requirements file.

    Raises:
        BundleError: a line is not ``NAME==VERSION --hash=sha256:DIGEST``.
    """
    lines = requirements.read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    found = []
    for line in lines:
        if not line.strip() or line.startswith("#"):
            continue
        match = PIN.match(" ".join(line.split()))
        if match is None:
            raise BundleError(f"{requirements}: not NAME==VERSION --hash=sha256:DIGEST: {line!r}")
        found.append(Pin(**match.groupdict()))
    return found


def pack(
    folder: Path,
    *,
    sglang: str = "0.5.16",
    wheels: Path | None = None,
    kernels: Path | None = None,
    plugin: Path | None = None,
) -> None:
    """Make a bundle, on a machine with a package index.

    Args:
        folder: the bundle; made if need be, files of an earlier bundle are replaced.
        sglang: version; ``resources/sglang-VERSION`` must exist.
        wheels: folder of wheels, completed by downloads; ``wheels`` in `folder` by default. It need
            not travel.
        kernels: archive made by `keep_kernels` with the same pins on the same kind of GPU.
        plugin: folder of a plug-in's project (``sglang_patch``), which travels too.

    Raises:
        BundleError: a wheel cannot be had or is not the pinned one.
    """
    source = resource(f"sglang-{sglang}")
    if not source.is_dir():
        raise BundleError(f"there is no bundle description for SGLang {sglang} ({source})")
    description = json.loads((source / MANIFEST).read_text(encoding="utf-8"))
    requirements = source / "requirements.txt"
    folder.mkdir(parents=True, exist_ok=True)
    wheels = wheels or folder / "wheels"
    files = _wheels(requirements, wheels, description)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        site = Path(scratch)
        for wheel in files:
            _extract(wheel, site, description["leave_out"])
        if plugin is not None:
            with tempfile.TemporaryDirectory(dir=folder) as built:
                _extract(_built(plugin, Path(built)), site, [])
        shutil.copytree(
            source / "stubs", site, dirs_exist_ok=True, ignore=lambda *_: {"__pycache__"}
        )
        for library in description["strip"]:
            _strip(site / library)
        logger.info("packing %s, this takes a minute or two", folder / SITE_ARCHIVE)
        _archive(site, folder / SITE_ARCHIVE, time=TIME)
    archives = [SITE_ARCHIVE]
    (folder / KERNEL_ARCHIVE).unlink(missing_ok=True)
    if kernels is not None:
        shutil.copyfile(kernels, folder / KERNEL_ARCHIVE)
        archives.append(KERNEL_ARCHIVE)
    manifest = {
        "sglang": sglang,
        "python": description["python"],
        "platform": description["platform"],
        "node": description["node"],
        "sha256": {name: sha256_file(folder / name) for name in archives},
    }
    with atomic_path(folder / MANIFEST) as partial:
        partial.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


def unpack(folder: Path, site: Path, kernels: Path | None = None) -> bool:
    """Unpack a bundle on the GPU node, with the Python that will run the server.

    Args:
        folder: the bundle.
        site: folder for the packages, for `Runtime.site`. What an earlier bundle left there is replaced.
        kernels: folder for compiled kernels, for `Runtime.kernels`. Kernels are found again only below
            the paths where they were compiled.

    Returns:
        Whether anything had to be done.

    Raises:
        BundleError: the bundle is damaged or was made for another Python, machine or PyTorch; `site`
            is a folder of something else.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BundleError(f"{folder}: no bundle is there ({error}); make one with `pack`") from None
    _check_node(manifest)
    changed = False
    for name, target in ((SITE_ARCHIVE, site), (KERNEL_ARCHIVE, kernels)):
        digest = manifest["sha256"].get(name)
        if digest is None or target is None:
            continue
        marker = target / MARKER
        if marker.is_file() and marker.read_text(encoding="utf-8") == digest:
            continue
        archive = folder / name
        if not archive.is_file() or sha256_file(archive) != digest:
            raise BundleError(f"{archive} is missing or damaged; copy the bundle again")
        if name == SITE_ARCHIVE:
            _make_room(target, marker)
        target.mkdir(parents=True, exist_ok=True)
        marker.write_text("unfinished", encoding="utf-8")  # an interrupted one is replaced
        try:
            with tarfile.open(archive) as tar:
                tar.extractall(target, filter="data")  # nothing outside of the folder, no devices
        except tarfile.TarError as error:
            raise BundleError(f"{archive}: refused ({error}); pack the bundle again") from error
        marker.write_text(digest, encoding="utf-8")
        changed = True
    return changed


def keep_kernels(kernels: Path, archive: Path) -> None:
    """Pack the kernels that a server compiled, for `pack` on the next occasion.

    They fit only the same kind of GPU, the same versions and the same two folders (`unpack`).

    Raises:
        BundleError: there are none.
    """
    if not kernels.is_dir() or not any(kernels.iterdir()):
        raise BundleError(f"{kernels} holds no kernels; let a server run there first")
    _archive(kernels, archive, time=None)


def _wheels(requirements: Path, folder: Path, description: dict[str, Any]) -> list[Path]:
    """Return the pinned wheels, after downloading what is missing."""
    wanted = pins(requirements)
    found = _by_digest(folder)
    if missing := [pin.name for pin in wanted if pin.sha256 not in found]:
        logger.info("downloading %d wheels: %s", len(missing), ", ".join(missing))
        _download(requirements, folder, description)
        found = _by_digest(folder)
    for pin in wanted:
        if pin.sha256 not in found:
            raise BundleError(f"{folder}: no file is the pinned wheel of {pin.name} {pin.version}")
    return [found[pin.sha256] for pin in wanted]


def _by_digest(folder: Path) -> dict[str, Path]:
    return {sha256_file(path): path for path in sorted(folder.glob("*.whl"))}


def _download(requirements: Path, folder: Path, description: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    machine, python = description["platform"], description["python"]
    tags = [f"manylinux_2_{minor}_{machine}" for minor in GLIBC_MINORS]
    tags += [f"{tag}_{machine}" for tag in LEGACY_TAGS]
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--require-hashes", "--requirement", str(requirements), "--dest", str(folder)]
    command += ["--python-version", python, "--implementation", "cp", "--progress-bar", "off"]
    for abi in (f"cp{python.replace('.', '')}", "abi3", "none"):
        command += ["--abi", abi]
    for tag in tags:
        command += ["--platform", tag]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        errors = [line for line in done.stdout.splitlines() if line.startswith("ERROR")]
        reason = errors[-1] if errors else f"pip ended with status {done.returncode}"
        raise BundleError(
            f"{requirements}: not all wheels can be downloaded ({reason}); check the package index, "
            f"or put the wheels into {folder}"
        )


def _built(project: Path, folder: Path) -> Path:
    """Return the wheel of a project, built into a folder."""
    if not (project / "pyproject.toml").is_file():
        raise BundleError(f"{project} has no pyproject.toml; name the folder of the plug-in")
    build_project(project.name, project, folder)
    return next(folder.glob("*.whl"))


def _extract(wheel: Path, site: Path, leave_out: list[str]) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if any(fnmatch.fnmatchcase(name, pattern) for pattern in leave_out):
                continue
            if ".data/" in name:
                raise BundleError(
                    f"{wheel.name}: {name} is outside the package; leave it out or map it"
                )
            archive.extract(name, site)


def _strip(library: Path) -> None:
    """Drop symbols that only debuggers need; a bundle without this is larger, not worse."""
    tool = shutil.which("strip")
    if tool is None:
        logger.warning("%s keeps its symbols: there is no `strip` here", library.name)
        return
    subprocess.run([tool, "--strip-unneeded", str(library)], check=True)


def _archive(folder: Path, target: Path, time: int | None) -> None:
    """Write ``.tar.xz`` in a fixed order.

    Times are whole seconds: ninja compares them with those in its own records, and takes a rounded
    fraction for a newer file that must be compiled again.
    """
    with (
        atomic_path(target) as partial,
        tarfile.open(partial, "w:xz", format=tarfile.GNU_FORMAT, preset=6) as tar,
    ):
        for path in _files(folder):
            name = path.relative_to(folder).as_posix()
            tar.add(path, name, recursive=False, filter=lambda member: plain(member, time))


def plain(member: tarfile.TarInfo, time: int | None) -> tarfile.TarInfo:
    """Return a member of an archive without owner and umask, at this time or in whole seconds."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
    member.mtime = int(member.mtime) if time is None else time
    return member


def _files(folder: Path) -> Iterator[Path]:
    """Yield everything below a folder in order, without locks, caches and this module's marker."""
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".lock" or path.name == MARKER or "__pycache__" in path.parts:
            continue
        yield path


def _check_node(manifest: dict[str, Any]) -> None:
    """Raise BundleError unless this Python can use the bundle."""
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    if (here, platform.machine()) != (manifest["python"], manifest["platform"]):
        raise BundleError(
            f"the bundle is for Python {manifest['python']} on {manifest['platform']}, this is Python "
            f"{here} on {platform.machine()} ({sys.executable})"
        )
    for package, wanted in manifest["node"].items():
        try:
            found = importlib.metadata.version(package).partition("+")[0]
        except importlib.metadata.PackageNotFoundError:
            found = "none"
        if found != wanted:
            raise BundleError(
                f"{sys.executable} must have {package} {wanted} itself, found {found}: run this with "
                "the Python that has it, or pack a bundle for what is there"
            )


def _make_room(site: Path, marker: Path) -> None:
    """Delete an earlier bundle's packages; refuse any other folder that is not empty."""
    if site.is_dir() and any(site.iterdir()):
        if not marker.is_file():
            raise BundleError(f"{site} is not empty and no unpacked bundle; name another folder")
        shutil.rmtree(site)
