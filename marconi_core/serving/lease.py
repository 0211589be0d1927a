"""One server per GPU: leases that end with the server, however it ends."""

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from marconi_core.serving import nvidia
from marconi_core.serving.errors import ServingError


def gpus(count: int, environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """Return the names of the first `count` GPUs that a server here would use.

    Raises:
        ServingError: CUDA_VISIBLE_DEVICES names fewer.
    """
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return tuple(map(str, range(count)))
    names = [name.strip() for name in visible.split(",") if name.strip()]
    if len(names) < count:
        raise ServingError(
            f"tensor_parallel: {count} GPUs are wanted, CUDA_VISIBLE_DEVICES='{visible}' names "
            f"{len(names)}"
        )
    return tuple(names[:count])


def lease_folder() -> Path:
    """Return the folder of the lease files: MARCONI_LEASES, or one for the whole machine."""
    return Path(os.environ.get("MARCONI_LEASES") or Path(tempfile.gettempdir()) / "marconi-leases")


@contextlib.contextmanager
def leased(names: Sequence[str], holder: str) -> Iterator[tuple[int, ...]]:
    """Hold GPUs; yield the file descriptors that hold them.

    A descriptor that a child process inherits keeps the lease after this process is gone. That is
    wanted: the GPU is free when the server is gone, not when its starter is.

    Args:
        names: GPUs, as CUDA_VISIBLE_DEVICES names them: by index or by UUID, which is the same lease.
        holder: what to tell others who want them.

    Raises:
        ServingError: one of them is held; the message says by whom.
    """
    folder = lease_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(PermissionError):  # made by another user, who did the same
        folder.chmod(0o1777)
    known = nvidia.gpus("index", "uuid")
    with contextlib.ExitStack() as stack:
        descriptors = []
        for name in names:
            gpu = nvidia.named(name, known)  # None: a part of one, by MIG
            path = folder / f"gpu-{(gpu['uuid'] if gpu else name).replace('/', '_')}"
            # anyone may write to the folder: a link there could name a file of somebody else
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
            stack.callback(os.close, descriptor)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                other = os.pread(descriptor, 500, 0).decode(errors="replace").strip()
                raise ServingError(
                    f"GPU {name} is in use by {other or 'another server'}; stop that, wait, or choose "
                    "another GPU with CUDA_VISIBLE_DEVICES"
                ) from None
            with contextlib.suppress(PermissionError):
                os.fchmod(descriptor, 0o666)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, holder.encode(), 0)
            descriptors.append(descriptor)
        yield tuple(descriptors)
