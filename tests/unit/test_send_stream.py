"""tx without a pump: which frames it takes, and to which epoch they belong."""

from __future__ import annotations

from typing import Any

import anyio
import numpy as np
import pytest

from beluga_livekit import AudioFrame
from beluga_livekit._send.interrupt import Epoch
from beluga_livekit._send.playback import Playback, QueuedFrame
from beluga_livekit._send.send_stream import SendQueue

pytestmark = pytest.mark.anyio

FRAME = AudioFrame.from_samples(np.zeros(480, np.int16), 48_000)


class Session:
    """The epoch and the error of a session, and its queue."""

    def __init__(self) -> None:
        self.epoch = Epoch()
        self.queue = SendQueue(lambda: ZeroDivisionError("ended"), lambda: self.epoch)


@pytest.fixture
async def session() -> Session:
    return Session()


def close(session: Session) -> None:
    session.queue.tx.close()
    session.queue.close()


async def test_tx_names_from_rtc_for_a_frame_of_the_sdk(session: Session) -> None:
    """Contract: the error names the remedy; the SDK's class has the same name as ours."""
    rtc_frame: Any = type("AudioFrame", (), {"__module__": "livekit.rtc.audio_frame"})()
    with pytest.raises(TypeError, match=r"livekit.rtc.audio_frame.AudioFrame; .*from_rtc"):
        await session.queue.tx.send(rtc_frame)
    with pytest.raises(TypeError, match=r"got builtins.bytes; make one of its PCM"):
        session.queue.tx.send_nowait(b"")  # type: ignore[arg-type]
    close(session)


async def test_frame_belongs_to_the_epoch_in_which_its_send_began(session: Session) -> None:
    """Contract: an interrupt drops every frame whose send began before it returned."""
    began = session.epoch
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(session.queue.tx.send, FRAME)
        await anyio.wait_all_tasks_blocked()
        session.epoch = Epoch()
        tasks.start_soon(session.queue.tx.send, FRAME)
        received = [await session.queue.items.receive() for _ in range(2)]
    assert received == [QueuedFrame(FRAME, began), QueuedFrame(FRAME, session.epoch)]
    close(session)


async def test_discard_returns_the_sends_that_wait(session: Session) -> None:
    """Contract: interrupted sends return, and later ones are queued."""
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(session.queue.tx.send, FRAME)
        await anyio.wait_all_tasks_blocked()
        session.queue.discard()
    with pytest.raises(anyio.WouldBlock):
        session.queue.items.receive_nowait()
    close(session)
    session.queue.discard()


async def test_queue_ends_with_tx_although_a_playback_waits(session: Session) -> None:
    """Contract: a playback that waits is received, and does not keep tx open afterwards."""
    playback = Playback(ZeroDivisionError)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(session.queue.enqueue, playback)
        await anyio.wait_all_tasks_blocked()
        session.queue.tx.close()
        assert await session.queue.items.receive() is playback
        with pytest.raises(anyio.EndOfStream):
            await session.queue.items.receive()
    assert session.queue.is_ended
    with pytest.raises(anyio.ClosedResourceError, match="tx is closed"):
        await session.queue.enqueue(playback)
    playback.close()
    close(session)


async def test_closed_queue_raises_the_error_of_the_session(session: Session) -> None:
    """Contract: sends, clones and playbacks raise why the session ended."""
    session.queue.close()
    with session.queue.tx.clone() as tx:
        with pytest.raises(ZeroDivisionError):
            await tx.send(FRAME)
        with pytest.raises(ZeroDivisionError):
            tx.send_nowait(FRAME)
    playback = Playback(ZeroDivisionError)
    with pytest.raises(ZeroDivisionError):
        await session.queue.enqueue(playback)
    playback.close()
    close(session)
