"""Run the command line in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

TIMEOUT = 60  # Limit for one command (s); the demo takes about 8 s.
VARIABLES = ("LIVEKIT_URL", "LIVEKIT_TOKEN", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET")
COMMAND = (sys.executable, "-m", "beluga_livekit")


def cli_environment(given: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment with only the given LiveKit variables."""
    clean = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    return clean | {"COLUMNS": "200", **given}


def run_cli(
    *words: str, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run one command to its end, and return its output and exit code."""
    return subprocess.run(
        [*COMMAND, *words],
        env=cli_environment(env or {}),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
