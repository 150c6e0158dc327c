"""Compare the pinned versions with the known vulnerabilities: ``make audit``.

pip-audit ends well when its service knows none of the packages, as a mirror without that service
does not. So its answer is counted here: a package that was not compared is not a package without
vulnerabilities.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PINNED = Path(__file__).parent.parent / "constraints.txt"


def pinned(text: str) -> str:
    """Return the requirements of a file of constraints, without comments and markers."""
    lines = (line.partition(";")[0].partition("#")[0].strip() for line in text.splitlines())
    return "\n".join(filter(None, lines)) + "\n"


def verdict(found: Mapping[str, Any]) -> tuple[int, str]:
    """Return the exit status for pip-audit's answer, and what to say of it."""
    packages = found["dependencies"]
    skipped = [package["name"] for package in packages if "skip_reason" in package]
    vulnerable = [
        f"{one['name']} {one['version']}: {', '.join(known['id'] for known in one['vulns'])}"
        for one in packages
        if one.get("vulns")
    ]
    compared = f"{len(packages) - len(skipped)} of {len(packages)} pinned versions were compared"
    if vulnerable:
        return 1, f"{compared}; known vulnerabilities:\n" + "\n".join(vulnerable)
    if len(skipped) == len(packages):
        return 2, (
            f"No result: {compared}. The vulnerability service cannot be reached, or the package "
            "index in use does not offer it. Run this where pypi.org can be reached."
        )
    if skipped:
        return 2, f"No full result: {compared}, without a known vulnerability. Not compared: " + (
            ", ".join(skipped)
        )
    return 0, f"No known vulnerability: {compared}."


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        requirements, answer = Path(name) / "pinned.txt", Path(name) / "answer.json"
        requirements.write_text(pinned(PINNED.read_text(encoding="utf-8")), encoding="utf-8")
        command = [sys.executable, "-m", "pip_audit", "--requirement", str(requirements)]
        options = ["--no-deps", "--disable-pip", "--progress-spinner", "off"]
        options += ["--format", "json", "--output", str(answer)]
        ended = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
        if not answer.exists():
            print(f"No result: pip-audit failed.\n{ended.stderr[-2000:]}")
            return 2
        status, said = verdict(json.loads(answer.read_text(encoding="utf-8")))
    print(said)
    return status


if __name__ == "__main__":
    sys.exit(main())
