"""PcmSendStream and PcmReceiveStream: raw PCM in and out."""

from __future__ import annotations

from typing import Any

import anyio
import numpy as np
import pytest
from support.audio import measure, receive_until_silent, samples_of, tone

from beluga_livekit import AudioFrame, ConfigError, LiveKitSession
from beluga_livekit.pcm import PcmReceiveStream, PcmSendStream

pytestmark = pytest.mark.anyio


async def test_pcm_send_stream_converts_rate_and_channels(session: LiveKitSession) -> None:
    """Contract: PCM of another format is converted."""
    pcm = tone(440, 0.5, 24000, channels=2).tobytes()
    async with anyio.create_task_group() as tasks:

        async def send_chunks() -> None:
            async with PcmSendStream(session.tx.clone(), sample_rate=24000, num_channels=2) as out:
                for at in range(0, len(pcm), 1001):
                    await out.send(pcm[at : at + 1001])

        tasks.start_soon(send_chunks)
        frames = await receive_until_silent(session.rx)
    # Left is 440 Hz, right an octave above: the mean has both, and 440 Hz at half the level.
    assert measure(samples_of(frames), 16000).duration == pytest.approx(0.5, abs=0.04)


async def test_pcm_receive_stream_returns_chunks_of_any_size(session: LiveKitSession) -> None:
    """Contract: `receive(max_bytes)` follows anyio's byte streams."""
    async with PcmReceiveStream(session.rx.clone()) as source:
        assert 1 <= len(await source.receive()) <= 65536
        assert len(await source.receive(7)) == 7
        assert len(await source.receive(7)) == 7
        with pytest.raises(ValueError, match="positive"):
            await source.receive(0)
    await session.receive()


async def test_pcm_send_stream_drops_partial_sample_at_close(
    session: LiveKitSession, caplog: pytest.LogCaptureFixture
) -> None:
    """Contract: an incomplete last sample is dropped with one warning; the stream is closed."""
    out = PcmSendStream(session.tx.clone(), num_channels=2)
    await out.send(b"abc")
    await out.aclose()
    await out.aclose()
    (message,) = (each.message for each in caplog.records if each.name == "beluga_livekit")
    assert message == (
        "livekit: PCM decoding dropped 3 of 4 bytes of a sample: the stream ended within it; "
        "check num_channels, and send whole samples"
    )
    with pytest.raises(anyio.ClosedResourceError):
        await out.send(b"abcd")
    await session.send(AudioFrame(bytes(640), 16000))


async def test_pcm_send_stream_rejects_what_is_no_pcm(session: LiveKitSession) -> None:
    """Contract: a file, an array and a number are errors; the stream continues unchanged."""
    out = PcmSendStream(session.tx.clone())
    wrong: list[Any] = [b"RIFF\0\0\0\0WAVEfmt ", np.zeros(4, np.float32), 5, "sound", [1, 2]]
    for item in wrong:
        with pytest.raises((ConfigError, TypeError), match=r"raw PCM|bytes of interleaved int16"):
            await out.send(item)
    await out.send(b"ab")
    await out.aclose()


def frames_and_pcm() -> tuple[list[AudioFrame], bytes]:
    frames = [AudioFrame(bytes([number]) * 640, 16000) for number in range(2)]
    return frames, b"".join(frame.data for frame in frames)


async def test_pcm_receive_stream_loses_nothing_to_second_task() -> None:
    """Regression: two tasks in receive(100) got 740 of 1280 bytes; the second one is an error."""
    frames, pcm = frames_and_pcm()
    send, receive = anyio.create_memory_object_stream[AudioFrame](10)
    received = b""
    async with PcmReceiveStream(receive) as source, anyio.create_task_group() as tasks:

        async def read() -> None:
            nonlocal received
            async for data in source:
                received += data

        tasks.start_soon(read)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(anyio.BusyResourceError):
            await source.receive(100)
        for frame in frames:
            send.send_nowait(frame)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(anyio.BusyResourceError):
            await source.receive(100)
        send.close()
    assert received == pcm


async def test_pcm_receive_stream_loses_nothing_when_cancelled() -> None:
    """Contract: a cancelled receive has taken nothing."""
    frames, pcm = frames_and_pcm()
    send, receive = anyio.create_memory_object_stream[AudioFrame](10)
    received = b""
    async with PcmReceiveStream(receive) as source:
        for frame in (*frames, None):
            with anyio.CancelScope() as scope:
                scope.cancel()
                received += await source.receive(100)
            if frame is not None:
                send.send_nowait(frame)
                received += await source.receive(101)
        send.close()
        async for data in source:
            received += data
    assert received == pcm


async def test_pcm_send_stream_repeats_cancelled_send() -> None:
    """Regression: a send that was cancelled and repeated shifted all further samples by a byte."""
    _, pcm = frames_and_pcm()
    send, receive = anyio.create_memory_object_stream[AudioFrame](0)
    received = b""
    async with PcmSendStream(send) as out, receive, anyio.create_task_group() as tasks:
        for at in range(0, len(pcm), 641):
            chunk = pcm[at : at + 641]
            with anyio.CancelScope() as scope:
                tasks.start_soon(cancel_when_blocked, scope)
                await out.send(chunk)
            assert scope.cancelled_caught
            tasks.start_soon(out.send, chunk)
            received += (await receive.receive()).data
            await anyio.wait_all_tasks_blocked()
    assert received == pcm


async def cancel_when_blocked(scope: anyio.CancelScope) -> None:
    await anyio.wait_all_tasks_blocked()
    scope.cancel()


async def test_pcm_send_stream_refuses_second_task() -> None:
    """Contract: chunks may end within a sample, so two tasks cannot share a stream of bytes."""
    send, receive = anyio.create_memory_object_stream[AudioFrame](0)
    async with PcmSendStream(send) as out, receive, anyio.create_task_group() as tasks:
        tasks.start_soon(out.send, b"abcde")
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(anyio.BusyResourceError):
            await out.send(b"fg")
        assert (await receive.receive()).data == b"abcd"
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(out.send, b"f")
        assert (await receive.receive()).data == b"ef"


@pytest.mark.parametrize("size", [True, 100.0, "7", 0, -1, None])
async def test_pcm_receive_stream_rejects_wrong_size(session: LiveKitSession, size: Any) -> None:
    """Contract: `max_bytes` is a positive whole number of any integer type."""
    async with PcmReceiveStream(session.rx.clone()) as source:
        with pytest.raises(ConfigError, match="max_bytes must be a positive whole number"):
            await source.receive(size)
        seven: Any = np.int64(7)
        assert len(await source.receive(seven)) == 7
