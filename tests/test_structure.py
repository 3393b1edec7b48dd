"""The files stand in the order in which sound travels, and each imports only those before it."""

from __future__ import annotations

import ast
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import beluga_livekit

ORDER = [
    "_errors",
    "_tasks",
    "_log",
    "_people",
    "_events",
    "_roster",
    "_frame",
    "_playout",
    "_dtmf",
    "_config",
    "_mixer",
    "_resampler",
    "_converter",
    "_ffi",
    "_rtc",
    "_preconnect",
    "_track_mixer",
    "_queue",
    "_listener",
    "_receive",
    "_each",
    "_speaker",
    "_gate",
    "_tx",
    "_send",
    "_wiring",
    "_link",
    "_loopback",
    "_background",
    "_session",
    "_open",
    "_loopback_room",
    "testing",
    "pcm",
    "transport",
    "cli",
]
PACKAGE = Path(beluga_livekit.__file__).parent


def imports_of(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            found |= {node.module} if node.module else {alias.name for alias in node.names}
    return found


def test_every_file_is_in_the_order_and_imports_only_what_is_before_it() -> None:
    files = {path.stem for path in PACKAGE.glob("*.py")}
    assert files == {*ORDER, "__init__", "__main__"}
    for position, name in enumerate(ORDER):
        assert imports_of(PACKAGE / f"{name}.py") <= set(ORDER[:position]), name


def test_the_package_imports_neither_pcm_nor_transport_nor_cli() -> None:
    assert imports_of(PACKAGE / "__init__.py").isdisjoint({"pcm", "transport", "cli"})


def test_only_two_files_touch_the_sdk() -> None:
    users = {
        path.stem
        for path in PACKAGE.glob("*.py")
        if any(line.startswith(("from livekit import rtc", "    from livekit.rtc"))
               for line in path.read_text().splitlines())
    }  # fmt: skip
    assert users == {"_rtc", "_ffi"}


def test_importing_starts_nothing_native() -> None:
    code = (
        "import beluga_livekit, sys, threading\n"
        "from livekit.rtc._ffi_client import FfiClient\n"
        "assert FfiClient._instance is None\n"
        "assert threading.active_count() == 1\n"
        "assert not {'typer', 'soundfile', 'trio'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


@pytest.mark.fault
def test_an_exit_with_native_streams_open_has_the_programs_own_exit_code() -> None:
    """The SDK alone aborts one in fifteen of these: it takes many to see that it is mended."""
    code = (
        "import asyncio, sys\n"
        "from beluga_livekit import _ffi, _rtc\n"
        "async def main():\n"
        "    track = _rtc.local_track(_ffi.Source(48000, 1, 100).rtc)\n"
        "    streams = [_rtc.rtc.AudioStream(track) for _ in range(8)]\n"
        "    await anext(streams[0])\n"
        "    sys.exit(7)\n"
        "asyncio.run(main())\n"
    )

    def run(_: int) -> int:
        command = [sys.executable, "-c", code]
        return subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode

    with ThreadPoolExecutor(2) as pool:
        assert set(pool.map(run, range(24))) == {7}
