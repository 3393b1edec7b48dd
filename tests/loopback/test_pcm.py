"""PcmSendStream and PcmReceiveStream: raw PCM in and out."""

from __future__ import annotations

import anyio
import pytest
from support.audio import measure, receive_until_silent, samples_of, tone

from beluga_livekit import AudioFrame, LiveKitSession
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


async def test_pcm_send_stream_rejects_partial_sample_at_close(session: LiveKitSession) -> None:
    """Contract: PCM that ends within a sample is a ConfigError at aclose."""
    out = PcmSendStream(session.tx.clone(), num_channels=2)
    await out.send(b"abc")
    with pytest.raises(ValueError, match="3 of 4 bytes"):
        await out.aclose()
    await out.aclose()
    with pytest.raises(anyio.ClosedResourceError):
        await out.send(b"abcd")
    await session.send(AudioFrame(bytes(640), 16000))
