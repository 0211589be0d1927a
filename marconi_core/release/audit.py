"""Known vulnerabilities of locked packages, as pip-audit finds them."""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

OPTIONS = ("--require-hashes", "--disable-pip", "--progress-spinner", "off", "--format", "json")
TIMEOUT_S = 45.0


class Audit(NamedTuple):
    """What is known of a lock.

    Attributes:
        audited: packages whose advisories were read.
        unknown: packages whose advisories could not be had.
        findings: one line for each vulnerability.
        reason: why nothing was audited, if pip-audit gave up.
    """

    audited: int = 0
    unknown: int = 0
    findings: tuple[str, ...] = ()
    reason: str = ""

    def __str__(self) -> str:
        if not self.audited:
            reason = self.reason or f"no advisories for any of {self.unknown} packages"
            return f"NOT AUDITED: {reason}"
        unknown = f", {self.unknown} could not be audited" if self.unknown else ""
        return f"{self.audited} packages audited{unknown}, {len(self.findings)} findings"


def audit(lock: Path, pip_audit: Sequence[str], timeout_s: float = TIMEOUT_S) -> Audit:
    """Look up the packages of a lock.

    An audit that cannot be made (no network, no pip-audit) is not a finding; it says so.

    Args:
        lock: requirements with hashes.
        pip_audit: words that run pip-audit.
        timeout_s: seconds it may take.
    """
    command = [*pip_audit, *OPTIONS, "--requirement", str(lock)]
    try:
        outcome = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s)
    except FileNotFoundError:
        return Audit(reason=f"{pip_audit[0]} is not installed")
    except subprocess.TimeoutExpired:
        return Audit(reason=f"no answer within {timeout_s:.0f} s")
    try:
        packages = json.loads(outcome.stdout)["dependencies"]
    except (ValueError, KeyError):
        lines = outcome.stderr.strip().splitlines()
        return Audit(reason=lines[-1] if lines else f"status {outcome.returncode}")
    # pip-audit calls a package that its database does not answer for "skipped", and succeeds
    audited = [package for package in packages if "skip_reason" not in package]
    findings = tuple(line for package in audited for line in _findings(package))
    return Audit(len(audited), len(packages) - len(audited), findings)


def _findings(package: dict[str, Any]) -> list[str]:
    return [
        f"{package['name']} {package['version']}: {found['id']}, fixed in "
        f"{', '.join(found['fix_versions']) or 'no version yet'}"
        for found in package["vulns"]
    ]
