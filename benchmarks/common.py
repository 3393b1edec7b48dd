"""Shared by the benchmarks: server, tokens and raw rooms, resource usage, and results as JSON."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import secrets
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import attrs
import psutil
from livekit import rtc

from beluga_livekit import __version__

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from support.livekit_server import Server, serve
from support.tokens import mint_token

__all__ = [
    "ResourceMeter",
    "Results",
    "Server",
    "Usage",
    "connect",
    "make_parser",
    "mint",
    "publish",
    "quiet_environment",
    "serve",
    "unique_room",
]

TOKEN_LIFETIME = 6 * 3600.0  # seconds, longer than any round
PACKAGES = ("livekit", "anyio", "numpy", "soxr")


def make_parser(description: str) -> argparse.ArgumentParser:
    """Return a parser with the option that all benchmarks have."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument(
        "--results",
        type=Path,
        default=Path(__file__).parent / "results",
        help="folder for the JSON file and the pictures",
    )
    return parser


def unique_room(name: str) -> str:
    """Return a room name that no other round uses: a killed participant stays for a while."""
    return f"{name}-{secrets.token_hex(4)}"


def mint(server: Server, room: str, identity: str) -> str:
    """Mint a token that may join a room."""
    return mint_token(server, room, identity, ttl=TOKEN_LIFETIME)


def quiet_environment(**variables: str) -> dict[str, str]:
    """Return the environment of a subprocess in which the SDK does not log."""
    return {**os.environ, "RUST_LOG": "off", **variables}


async def connect(url: str, token: str) -> tuple[rtc.Room, asyncio.Queue[rtc.RemoteAudioTrack]]:
    """Connect with the raw SDK; return the room and a queue of the tracks subscribed to."""
    room = rtc.Room()
    tracks: asyncio.Queue[rtc.RemoteAudioTrack] = asyncio.Queue()
    room.on("track_subscribed", lambda track, *_: tracks.put_nowait(track))
    await room.connect(url, token)
    return room, tracks


async def publish(
    room: rtc.Room,
    name: str,
    rate: int,
    *,
    queue_ms: int,
    options: rtc.TrackPublishOptions | None = None,
) -> rtc.AudioSource:
    """Publish a mono track with the raw SDK; return its audio source."""
    source = rtc.AudioSource(rate, 1, queue_size_ms=queue_ms)
    track = rtc.LocalAudioTrack.create_audio_track(name, source)
    await room.local_participant.publish_track(track, options or rtc.TrackPublishOptions())
    return source


@attrs.frozen
class Usage:
    """The resources that a process used.

    Attributes:
        seconds: Duration of the measurement (s).
        cpu: CPU time (% of a core).
        memory: Growth of the resident memory (MB).
    """

    seconds: float
    cpu: float
    memory: float


class ResourceMeter:
    """Measures a process from the moment when the meter is made."""

    def __init__(self, process: psutil.Process) -> None:
        self._process = process
        self._cpu, self._memory, self._start = self._read()

    def usage(self) -> Usage:
        """Return the usage since the start."""
        cpu, memory, now = self._read()
        seconds = now - self._start
        return Usage(seconds, 100 * (cpu - self._cpu) / seconds, (memory - self._memory) / 1e6)

    def _read(self) -> tuple[float, int, float]:
        times = self._process.cpu_times()
        return times.user + times.system, self._process.memory_info().rss, time.perf_counter()


@attrs.define
class Results:
    """The figures of one run, with the versions and the machine that they depend on.

    Attributes:
        name: Name of the benchmark, and of its JSON file.
        parameters: Arguments of the run.
        rows: One dict a row. Keys end in the unit.
    """

    name: str
    parameters: dict[str, Any] = attrs.field(factory=dict)
    rows: list[dict[str, Any]] = attrs.field(factory=list)

    def add(self, **figures: Any) -> None:
        """Add a row."""
        self.rows.append(_rounded(figures))

    def print_versions(self) -> None:
        """Print the versions and the machine, as the first line of the output."""
        versions = (f"{name} {number}" for name, number in _versions().items())
        print(*versions, f"{os.cpu_count()} cores", sep=", ")

    def write(self, folder: Path) -> None:
        """Write the JSON file."""
        folder.mkdir(parents=True, exist_ok=True)
        machine = {"platform": platform.platform(), "cores": os.cpu_count()}
        content = {
            "benchmark": self.name,
            "versions": _versions(),
            "machine": machine,
            "parameters": self.parameters,
            "rows": self.rows,
        }
        (folder / f"{self.name}.json").write_text(json.dumps(content, indent=2) + "\n")


def _versions() -> dict[str, str]:
    own = {"Python": platform.python_version(), "beluga_livekit": __version__}
    return own | {name: version(name) for name in PACKAGES}


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(each) for each in value]
    return round(float(value), 4) if isinstance(value, float) else value
