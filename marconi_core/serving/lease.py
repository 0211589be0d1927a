"""One server per GPU: leases that end with the server, however it ends."""

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from marconi_core.serving import nvidia
from marconi_core.serving.errors import ServingError


class Lease(NamedTuple):
    """GPUs that are held.

    Attributes:
        gpus: their names, for CUDA_VISIBLE_DEVICES.
        descriptors: files that hold them. One that a child process inherits keeps the lease after this
            process is gone. That is wanted: the GPU is free when the server is gone, not when its
            starter is.
    """

    gpus: tuple[str, ...]
    descriptors: tuple[int, ...]


def gpus(count: int, environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """Return the names of the GPUs from which a server here would take `count`, in this order.

    Raises:
        ServingError: there are fewer.
    """
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        names = [gpu["index"] for gpu in nvidia.gpus("index")] or [str(n) for n in range(count)]
        source = "nvidia-smi shows"
    else:
        names = [name.strip() for name in visible.split(",") if name.strip()]
        source = f"CUDA_VISIBLE_DEVICES='{visible}' names"
    if len(names) < count:
        raise ServingError(f"tensor_parallel: {count} GPUs are wanted, {source} {len(names)}")
    return tuple(names)


def lease_folder() -> Path:
    """Return the folder of the lease files: MARCONI_LEASES, or one for the whole machine."""
    return Path(os.environ.get("MARCONI_LEASES") or Path(tempfile.gettempdir()) / "marconi-leases")


@contextlib.contextmanager
def leased(names: Sequence[str], holder: str, count: int = 1) -> Iterator[Lease]:
    """Hold the first `count` of some GPUs that nobody else holds.

    Args:
        names: GPUs, as CUDA_VISIBLE_DEVICES names them: by index or by UUID, which is the same lease.
        holder: what to tell others who want them.
        count: how many are wanted.

    Raises:
        ServingError: fewer are free; the message says who holds the others.
    """
    folder = lease_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(PermissionError):  # made by another user, who did the same
        folder.chmod(0o1777)
    known = nvidia.gpus("index", "uuid")
    with contextlib.ExitStack() as stack:
        held: dict[str, int] = {}
        taken = []
        for name in names:
            if len(held) == count:
                break
            gpu = nvidia.named(name, known)  # None: a part of one, by MIG
            path = folder / f"gpu-{(gpu['uuid'] if gpu else name).replace('/', '_')}"
            descriptor = _opened(path)
            stack.callback(os.close, descriptor)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                other = os.pread(descriptor, 500, 0).decode(errors="replace").strip()
                taken.append(f"GPU {name} is in use by {other or 'another server'}")
                continue
            with contextlib.suppress(PermissionError):
                os.fchmod(descriptor, 0o666)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, holder.encode(), 0)
            held[name] = descriptor
        if len(held) < count:
            raise ServingError(
                f"{'; '.join(taken)}; stop that, wait, or choose another GPU with CUDA_VISIBLE_DEVICES"
            )
        yield Lease(tuple(held), tuple(held.values()))


def _opened(path: Path) -> int:
    """Return a file descriptor of a lease file, which is made if need be.

    Raises:
        ServingError: it cannot be had.
    """
    # anyone may write to the folder: a link there could name a file of somebody else
    flags = os.O_RDWR | os.O_NOFOLLOW
    try:
        with contextlib.suppress(FileNotFoundError):
            return os.open(path, flags)  # with O_CREAT, Linux may refuse a file of another user
        return os.open(path, flags | os.O_CREAT, 0o666)
    except OSError as error:
        raise ServingError(
            f"{path}: cannot be opened to lease a GPU ({error.strerror}); name another folder with "
            "MARCONI_LEASES, the same for all who share the GPUs"
        ) from None
