"""The gate before the paced source, with no connection behind it."""

from __future__ import annotations

from functools import partial

import anyio
import pytest

from beluga_livekit._logging import SessionLog
from beluga_livekit._send.gate import PlaybackGate
from beluga_livekit._tasks import ChangeSignal

pytestmark = pytest.mark.anyio


class Waiter:
    """A task that waits for a gate."""

    def __init__(self, gate: PlaybackGate) -> None:
        self._gate = gate
        self.is_through = False

    async def wait(self) -> None:
        await self._gate.wait()
        self.is_through = True


@pytest.mark.parametrize("subscribed_first", [True, False])
async def test_gate_blocks_until_connected_and_subscribed(subscribed_first: bool) -> None:
    """Contract: in either order; then it blocks while disconnected, and for each new track."""
    gate = PlaybackGate(60, SessionLog(), ChangeSignal())
    first, second = gate.subscribed, gate.resume
    if not subscribed_first:
        first, second = second, first
    for close in (None, partial(gate.pause, "lost"), gate.unsubscribed):
        waiter = Waiter(gate)
        async with anyio.create_task_group() as tasks:
            if close is not None:
                close()
            tasks.start_soon(waiter.wait)
            await anyio.wait_all_tasks_blocked()
            assert not waiter.is_through
            first()
            if close is None:
                await anyio.wait_all_tasks_blocked()
                assert not waiter.is_through
            second()
        assert gate.is_connected


@pytest.mark.parametrize("timeout", [0.0, 0.01])
async def test_gate_opens_after_the_subscription_timeout(
    timeout: float, caplog: pytest.LogCaptureFixture
) -> None:
    """Contract: a warning says so, but for a timeout of 0; the next frame does not wait again."""
    gate = PlaybackGate(timeout, SessionLog(), ChangeSignal())
    gate.resume()
    with anyio.fail_after(5):
        await gate.wait()
        await gate.wait()
    assert caplog.text.count("no participant has subscribed within 0.01 s") == (timeout > 0)


async def test_wait_until_paused_begins_anew_after_a_resume() -> None:
    """Contract: a connection that is back in time interrupts no drain."""
    gate = PlaybackGate(60, SessionLog(), ChangeSignal())
    gate.resume()
    async with anyio.create_task_group() as tasks:
        gate.pause("lost")
        tasks.start_soon(gate.wait_until_paused, 60)
        await anyio.wait_all_tasks_blocked()
        gate.resume()
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    gate.pause("lost")
    with anyio.fail_after(5):
        await gate.wait_until_paused(0.01)
