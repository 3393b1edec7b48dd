"""All floods together, for minutes: memory and the event loop stay bounded."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import anyio
import numpy as np
import psutil
import pytest
from support.livekit_server import Server
from support.processes import run_process
from support.tokens import TokenFactory

from beluga_livekit import LiveKitSession, open_livekit

pytestmark = [pytest.mark.anyio, pytest.mark.soak]

DURATION = 300.0  # of the floods (s)
# Growth of memory (bytes) and loop lag (s, 99th percentile) that the floods may cause.
MAX_GROWTH, MAX_LAG = 100e6, 0.05
TICK = 0.01  # interval at which the lag is measured (s)


async def measure_lags(seconds: float) -> list[float]:
    """Return by how much each sleep of a tick was late (s)."""
    lags, end = [], time.monotonic() + seconds
    while (start := time.monotonic()) < end:
        await anyio.sleep(TICK)
        lags.append(time.monotonic() - start - TICK)
    return lags


async def read(session: LiveKitSession) -> None:
    async for _ in session.rx:
        pass


@pytest.mark.timeout(DURATION + 120)
async def test_floods_of_recordings_tracks_keys_and_metadata_stay_bounded(
    server: Server, token: TokenFactory
) -> None:
    """Contract: untrusted participants grow memory by less than 100 MB and stall no loop."""
    tokens = [token(name, can_update_own_metadata=True) for name in ("eve", "mallory", "trudy")]
    command = [sys.executable, "-m", "support.attacker", server.url, *tokens]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, search_path()))}
    async with (
        open_livekit(server.url, token("bot"), pre_connect_audio=True) as bot,
        bot.events(),  # open and not read
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(read, bot)
        memory = psutil.Process().memory_info().rss
        async with run_process(command, env=environment, stderr=None) as attacker:
            assert attacker.stdout is not None
            assert b"attacking" in await attacker.stdout.receive()
            lags = await measure_lags(DURATION)
            assert attacker.returncode is None
        growth, lag = psutil.Process().memory_info().rss - memory, np.percentile(lags, 99)
        print(f"memory +{growth / 1e6:.0f} MB, loop lag p99 {lag * 1000:.0f} ms")
        assert growth < MAX_GROWTH
        assert lag < MAX_LAG
        tasks.cancel_scope.cancel()


def search_path() -> list[Path]:
    tests = Path(__file__).parents[1]
    return [tests.parent, tests]
