"""The SDK's audio source: its errors, and private names that have moved."""

from __future__ import annotations

import numpy as np
import pytest
from support.audio import collect_frames
from support.playback import (
    BLOCK,
    OLD,
    RATE,
    assert_fades_out,
    frame_of,
    open_exact_loopback,
    wait_until_played,
)

from beluga_livekit import LiveKitError
from beluga_livekit._sdk import audio_source, private_names

pytestmark = pytest.mark.anyio


@pytest.mark.slow_audio
async def test_play_and_interrupt_work_when_sdk_private_names_have_moved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """SDK quirk: private names may move; the SDK's own capture is the fallback (injected)."""
    monkeypatch.setattr(private_names, "SUPPORTED", False)
    async with open_exact_loopback() as session, collect_frames(session.rx) as received:
        await session.play(frame_of(OLD))
        assert np.array_equal(await received.wait_until_silent(), OLD)
        late = 0
        for _ in range(5):
            received.frames.clear()
            await session.send(frame_of(OLD))
            await wait_until_played(session, 0.05)
            await session.interrupt()
            try:
                assert_fades_out(await received.wait_until_silent(), OLD)
            except AssertionError:
                late += 1
        assert late <= 2  # A process that gets no CPU in time misses the clock tick of the fade.


async def test_audio_source_raises_when_sdk_rejects_capture() -> None:
    """SDK quirk: while one capture waits for room, the SDK rejects all others."""
    source = audio_source.AudioSource(RATE, 1, 20)
    await source.capture(OLD[: 2 * BLOCK])
    await source.capture(OLD[: 2 * BLOCK])  # Answered when a clock tick has made room.
    other = audio_source.AudioSource.__new__(audio_source.AudioSource)
    other.__dict__.update(source.__dict__, _unanswered={})
    await other.capture(OLD[:BLOCK])  # Rejected while the other one waits.
    with pytest.raises(LiveKitError, match="audio capture failed: .*failed to capture frame"):
        await other.wait_until_answered()
    await source.wait_until_answered()
    await source.aclose()


async def test_audio_source_raises_when_sdk_does_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """SDK quirk: a capture may stay unanswered (injected); CAPTURE_TIMEOUT bounds it."""
    monkeypatch.setattr(audio_source, "CAPTURE_TIMEOUT", 0.05)
    monkeypatch.setattr(audio_source.AudioSource, "_answer", lambda *_: None)
    with pytest.raises(LiveKitError, match="audio capture failed: no answer within 0.05 s"):
        async with open_exact_loopback():
            pass
