"""AsVoiceTransport: a session as Beluga's voice transport."""

from __future__ import annotations

import anyio
import pytest
from support.audio import measure, receive_until_silent, samples_of, tone

from beluga_livekit import AudioFrame, LiveKitSession, open_loopback, transport
from beluga_livekit.transport import AsVoiceTransport

pytestmark = pytest.mark.anyio


async def test_audio_out_leaves_session_open_when_closed() -> None:
    """Contract: closing `audio_out` closes a clone of tx only."""
    async with open_loopback() as session:
        out = AsVoiceTransport(session).audio_out
        await out.aclose()
        with pytest.raises(anyio.ClosedResourceError):
            await out.send(bytes(2))
        await AsVoiceTransport(session).audio_out.send(bytes(2))
        assert session.tx.statistics().open_send_streams == 1


async def test_voice_transport_receives_and_sends_pcm(session: LiveKitSession) -> None:
    """Contract: PCM cut anywhere is sent, frames are received, and close is idempotent."""
    voice: transport.VoiceTransport = AsVoiceTransport(session)
    pcm = tone(440, 0.5, 16000).tobytes()
    async with anyio.create_task_group() as tasks:

        async def send_chunks() -> None:
            for at in range(0, len(pcm), 333):  # Chunks that cut samples in two.
                await voice.audio_out.send(pcm[at : at + 333])

        tasks.start_soon(send_chunks)
        received = measure(samples_of(await receive_until_silent(voice.recv())), 16000)
    assert received.frequency == pytest.approx(440, abs=1)
    assert received.duration == pytest.approx(0.5, abs=0.04)
    await voice.send(AudioFrame(bytes(640), 16000))
    await voice.close()
    await voice.close()
    with pytest.raises(anyio.ClosedResourceError, match="^livekit: transport is closed$"):
        voice.recv()
    with pytest.raises(anyio.ClosedResourceError, match="^livekit: transport is closed$"):
        _ = voice.audio_out
    with pytest.raises(anyio.ClosedResourceError, match="^livekit: transport is closed$"):
        await voice.send(AudioFrame(bytes(640), 16000))
