"""Coverage-guided search for input that a reader mishandles; `make fuzz` starts it.

    python -m tests.fuzz TARGET... [--seconds N] [--corpus FOLDER]

Each target runs in a process of its own, under atheris. A finding is kept in the corpus folder as
``crash-*``, ``timeout-*`` or ``oom-*``; give its bytes to `tests.fuzz.targets.run` to see it again.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

FOLLOWED = ["marconi_core.traces", "marconi_core.config", "marconi_core.models", "zipfile", "yaml"]
COMPILED = ["marconi_core.traces.tree", "marconi_core.traces.describe", "marconi_core.models.flops"]
"""Modules that guide the search; numba's functions cannot be followed."""
TIMEOUT_S, MEMORY_MB, MAX_BYTES = 20, 4096, 1 << 16


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="default: all")
    parser.add_argument("--seconds", type=int, default=60, help="for each target (default: 60)")
    parser.add_argument("--corpus", type=Path, default=Path("results/fuzz"), metavar="FOLDER")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        search(options.targets[0], options.corpus, options.seconds)

    from tests.fuzz.targets import READERS

    found = []
    for name in options.targets or READERS:
        command = [sys.executable, "-m", "tests.fuzz", name, "--inside"]
        command += ["--seconds", str(options.seconds), "--corpus", str(options.corpus)]
        print(f"{name}: {options.seconds} s", flush=True)
        if subprocess.run(command).returncode != 0:
            found.append(name)
    print(f"findings: {', '.join(found) or 'none'}")
    return int(bool(found))


def search(name: str, corpus: Path, seconds: int) -> None:
    """Search one target; does not return."""
    import atheris

    with atheris.instrument_imports(include=FOLLOWED, exclude=COMPILED):
        from tests.fuzz.seeds import seed
        from tests.fuzz.targets import run

    run(name, seed(name))  # compiles the code
    folder = corpus / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "seed").write_bytes(seed(name))
    libfuzzer = [
        sys.argv[0],
        str(folder),
        f"-artifact_prefix={folder}{os.sep}",
        f"-max_total_time={seconds}",
        f"-timeout={TIMEOUT_S}",
        f"-rss_limit_mb={MEMORY_MB}",
        f"-max_len={MAX_BYTES}",
        "-print_final_stats=1",
        "-verbosity=0",
    ]
    atheris.Setup(libfuzzer, lambda content: run(name, content))
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
