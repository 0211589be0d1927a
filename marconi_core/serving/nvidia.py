"""What nvidia-smi says of the GPUs of this machine."""

import subprocess


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
