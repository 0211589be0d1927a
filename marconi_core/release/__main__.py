"""Command line of a release: ``python -m marconi_core.release COMMAND --help``, in a checkout."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from marconi_core.errors import MarconiError
from marconi_core.files import sha256_file
from marconi_core.release.archive import archive
from marconi_core.release.audit import audit
from marconi_core.serving.build import OWN
from marconi_core.serving.wheels import build_project


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return 0, 1 if an audit found something, 2 after one message on standard error."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options) or 0)
    except MarconiError as error:
        print(f"marconi: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m marconi_core.release", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    deposit = commands.add_parser("archive", help="write the one file to deposit")
    deposit.set_defaults(run=_archive)
    deposit.add_argument("output", type=Path, metavar="FOLDER")
    deposit.add_argument(
        "--wheels",
        nargs="*",
        default=[],
        metavar="PYTHON",
        help="add the packages of each of these",
    )

    wheels = commands.add_parser("wheels", help="build the wheels of this package and the plug-in")
    wheels.set_defaults(run=_wheels)
    wheels.add_argument("output", type=Path, metavar="FOLDER")

    check = commands.add_parser("audit", help="known vulnerabilities of locked packages")
    check.set_defaults(run=_audit)
    check.add_argument("locks", type=Path, nargs="+", metavar="LOCK")
    check.add_argument("--pip-audit", default="pip-audit", metavar="COMMAND")
    return parser


def _archive(options: argparse.Namespace) -> None:
    path = archive(options.output, pythons=options.wheels)
    print(f"{sha256_file(path)}  {path}  ({path.stat().st_size / 1e6:.1f} MB)")


def _wheels(options: argparse.Namespace) -> None:
    options.output.mkdir(parents=True, exist_ok=True)
    for name, source in OWN.items():
        build_project(name, Path(source), options.output)
    for path in sorted(options.output.glob("*.whl")):
        print(f"{sha256_file(path)}  {path}")


def _audit(options: argparse.Namespace) -> bool:
    found = False
    for lock in options.locks:
        outcome = audit(lock, [options.pip_audit])
        print(f"{lock}: {outcome}")
        for line in outcome.findings:
            print(f"  {line}")
        found |= bool(outcome.findings)
    return found


if __name__ == "__main__":
    sys.exit(main())
