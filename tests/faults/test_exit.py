"""Processes: their exit codes and lives after cancelled joins."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import anyio
import pytest
from support.livekit_server import Server
from support.processes import run_process
from support.room_admin import RoomAdmin
from support.tokens import TokenFactory, make_jwt
from support.unresponsive_server import run_unresponsive_server
from support.waiting import wait_for

pytestmark = [pytest.mark.anyio, pytest.mark.faults]

JOIN_AND_EXIT = """
import sys, anyio
from beluga_livekit import open_livekit

async def main(url, token, milliseconds):
    with anyio.move_on_after(float(milliseconds) / 1000):
        async with open_livekit(url, token):
            await anyio.sleep_forever()

anyio.run(main, *sys.argv[1:])
sys.exit(7)
"""


# Cancels a join in every way, then waits for 30 s: twice as long as the SDK takes to kill a process
# with an unanswered connect.
CANCEL_JOINS = """
import asyncio, json, os, signal, sys, threading, time, warnings
import anyio
from beluga_livekit import open_livekit

url, token = sys.argv[1:]
signal.signal(signal.SIGINT, signal.default_int_handler)  # A test runner may ignore it.

async def join():
    async with open_livekit(url, token, connect_timeout=60):
        pass

async def in_a_scope():
    with anyio.move_on_after(0.2):
        await join()

async def as_a_task():
    task = asyncio.create_task(join())
    await asyncio.sleep(0.2)
    task.cancel()
    await asyncio.wait({task})

async def by_a_signal():
    asyncio.get_running_loop().call_later(0.2, os.kill, os.getpid(), signal.SIGINT)
    await join()

took = {}
for how in (in_a_scope, as_a_task, by_a_signal):
    start = time.monotonic()
    try:
        asyncio.run(how())
    except KeyboardInterrupt:
        assert how is by_a_signal
    took[how.__name__] = time.monotonic() - start - 0.2

loop = asyncio.new_event_loop()  # A loop closed while the join runs.
left = loop.create_task(join())
loop.run_until_complete(asyncio.sleep(0.2))
loop.close()

print(json.dumps(took), flush=True)
time.sleep(30)
print(threading.active_count(), flush=True)
"""


@pytest.mark.parametrize("milliseconds", [5, 10, 20, 30, 40, 60, 80, 120])
async def test_exit_while_joining_leaves_no_participant(
    server: Server, token: TokenFactory, admin: RoomAdmin, milliseconds: int
) -> None:
    """Contract: a process that exits during a join keeps its exit code and leaves the room."""
    command = [sys.executable, "-c", JOIN_AND_EXIT, server.url, token("bot"), str(milliseconds)]
    done = await anyio.run_process(command, check=False)
    assert done.returncode == 7, done.stderr.decode()
    # A join that goes on would land within 0.5 s; the server removes a lost participant after 20 s.
    await anyio.sleep(0.5)
    await wait_for(admin.is_empty, 9.5)


async def test_process_survives_cancelled_joins() -> None:
    """SDK quirk: an unanswered connect kills the process after 15 s; waited for twice as long."""
    async with (
        run_unresponsive_server() as url,
        run_process([sys.executable, "-c", CANCEL_JOINS, url, make_jwt()], stderr=None) as process,
    ):
        assert process.stdout is not None
        start = time.monotonic()
        output = b""
        async for chunk in process.stdout:
            output += chunk
        await process.wait()
    assert process.returncode == 0
    took, threads = output.decode().splitlines()
    assert max(json.loads(took).values()) < 5  # Of `connect_timeout`, which is 60 s.
    assert time.monotonic() - start > 30
    assert int(threads) == 1


def test_exit_code_is_kept_with_native_streams_open() -> None:
    """SDK quirk: the SDK aborts one in fifteen exits with open streams; many runs show the fix."""
    code = (
        "import asyncio, sys\n"
        "from beluga_livekit._sdk import audio_source, rtc as _rtc\n"
        "async def main():\n"
        "    track = _rtc.local_track(audio_source.AudioSource(48000, 1, 100).rtc)\n"
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
