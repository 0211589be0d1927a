"""What nvidia-smi says of the GPUs of this machine."""

import subprocess
from collections.abc import Mapping, Sequence


def gpus(*fields: str) -> list[dict[str, str]]:
    """Return some fields (``nvidia-smi --help-query-gpu``) of every GPU; empty without one."""
    try:
        answer = subprocess.run(
            ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader"],
            capture_output=True, text=True, timeout=60, check=True,
        ).stdout  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [line.split(", ") for line in answer.splitlines() if line.strip()]
    return [dict(zip(fields, row, strict=True)) for row in rows]


def named(name: str, known: Sequence[Mapping[str, str]]) -> Mapping[str, str] | None:
    """Return the GPU that a word of CUDA_VISIBLE_DEVICES means; None where nvidia-smi does not know it.

    Args:
        name: its index, its UUID, or the beginning of one, as long as it is only one GPU's.
        known: all GPUs with their ``index`` and ``uuid``, from `gpus`.
    """
    found = [gpu for gpu in known if gpu["index"] == name or gpu["uuid"].startswith(name)]
    return found[0] if len(found) == 1 else None
