"""Pre-connect audio: recorded before the track, received before its live audio."""

from __future__ import annotations

import anyio
import numpy as np
import pytest
from support.audio import (
    LOUD,
    collect_frames,
    level_of,
    measure,
    samples_of,
    tone,
)
from support.livekit_server import Server
from support.marks import measures_network_audio
from support.raw_participant import join_raw
from support.recordings import encode
from support.tokens import TokenFactory
from support.waiting import wait_for

from beluga_livekit import open_livekit
from beluga_livekit._receive.preconnect import TOPIC

pytestmark = [pytest.mark.anyio, measures_network_audio]

RATE = 16000


@pytest.mark.parametrize("how", ["at once", "slowly", "by a browser"])
async def test_preconnect_audio_precedes_live_audio(
    server: Server, token: TokenFactory, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Contract: for every stream: first the recording, once, then all of the live audio."""
    before, now = tone(440, 1.0, 24000), tone(700, 1.0, 48000)
    data = encode(before, 24000) if how == "by a browser" else before.tobytes()
    mime_type = "audio/webm;codecs=opus" if how == "by a browser" else "audio/pcm"
    async with (
        open_livekit(server.url, token("bot", kind="agent"), pre_connect_audio=True) as bot,
        join_raw(server.url, token("peer")) as peer,
        join_raw(server.url, token("other")) as other,
        bot.open_rx(frame_size=160) as short,
        collect_frames(bot.rx) as received,
        collect_frames(short) as short_frames,
    ):
        await other.publish("MICROPHONE")
        await bot.receive()
        sid = await peer.publish("MICROPHONE", preconnect_buffer=True)

        async def send() -> None:
            attributes = {"trackId": sid, "sampleRate": "24000", "channels": "1"}
            for _ in range(2):  # The second recording has to be ignored.
                writer = await peer.room.local_participant.stream_bytes(
                    name="preconnect",
                    topic=TOPIC,
                    attributes=attributes,
                    mime_type=mime_type,
                    destination_identities=["bot"],
                )
                for at in range(0, len(data), 9601):  # Chunks end within a sample.
                    await writer.write(data[at : at + 9601])
                    await anyio.sleep(0.2 if how == "slowly" else 0)
                await writer.aclose()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(peer.play, now)
            tasks.start_soon(send)
        both = (received, short_frames)
        await wait_for(lambda: all(level_of(samples_of(each.frames), 700) > 0.2 for each in both))
        await anyio.sleep(0.5)  # A second copy would arrive now.
    assert "pre-connect" not in caplog.text  # No timeout was logged.
    for recording in both:
        sound = samples_of(recording.frames)
        assert measure(sound, RATE, onset=0.0).duration == pytest.approx(2.0, abs=0.2)
        start = int(np.flatnonzero(np.abs(sound) > LOUD)[0])
        first, second = sound[start : start + RATE], sound[start + RATE : start + 2 * RATE]
        for part, levels in ((first, (0.25, 0.0)), (second, (0.0, 0.25))):
            got = (level_of(part, 440), level_of(part, 700))
            assert got == pytest.approx(levels, abs=0.03)


@pytest.mark.parametrize("wrong", ["nothing", "no webm", "half a sample", "of another participant"])
async def test_invalid_preconnect_audio_does_not_block_live_audio(
    server: Server, token: TokenFactory, wrong: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Contract: a missing, broken or foreign recording is logged, and live audio arrives."""
    async with (
        open_livekit(server.url, token("bot"), pre_connect_audio=True) as bot,
        join_raw(server.url, token("peer")) as peer,
        join_raw(server.url, token("other")) as other,
        collect_frames(bot.rx) as received,
    ):
        await other.publish("MICROPHONE")
        await bot.receive()
        sid = await peer.publish("MICROPHONE", preconnect_buffer=True)
        sender = other if wrong == "of another participant" else peer
        if wrong != "nothing":
            attributes = {"trackId": sid, "sampleRate": "24000", "channels": "1"}
            writer = await sender.room.local_participant.stream_bytes(
                name="preconnect", topic=TOPIC, attributes=attributes,
                mime_type="audio/webm;codecs=opus" if wrong == "no webm" else "audio/pcm",
            )  # fmt: skip
            await writer.write(tone(700, 0.5, 24000).tobytes()[wrong == "half a sample" :])
            await writer.aclose()
        await peer.play(tone(440, 1.0, 48000))
        await wait_for(lambda: received.loud_seconds_from("peer") > 0.9)
    assert level_of(samples_of(received.frames), 700) < 0.01
    assert "pre-connect audio" in caplog.text
