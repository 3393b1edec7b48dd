"""Errors of a session that advise code: each remedy is run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np
import pytest

from beluga_livekit import AudioFrame, LiveKitSession, open_loopback
from beluga_livekit.pcm import PcmSendStream

pytestmark = pytest.mark.anyio

SAMPLES = np.full(480, 100, np.int16)
FRAME = AudioFrame.from_samples(SAMPLES, 48_000)
KEYWORDS = {"sample_rate": 48_000}


async def a_frame() -> AudioFrame:
    return FRAME


async def frames() -> AsyncIterator[AudioFrame]:
    yield FRAME


@pytest.mark.parametrize(
    ("wrong", "message", "right", "keywords"),
    [
        (lambda: SAMPLES, "AudioFrame.from_samples", lambda: FRAME, {}),
        (lambda: [SAMPLES], "AudioFrame.from_samples", lambda: [FRAME], {}),
        (lambda: a_frame, "call it", frames, {}),
        (SAMPLES.tobytes, "pass sample_rate=", SAMPLES.tobytes, KEYWORDS),
    ],
)
async def test_remedy_for_play_works(
    session: LiveKitSession, wrong: Callable[[], Any], message: str, right: Any, keywords: Any
) -> None:
    """Contract: the source, or keyword, that the message asks for is played."""
    with pytest.raises((TypeError, ValueError), match=message):
        await session.play(wrong())
    assert (await session.play(right(), **keywords)).played == 0.01


async def test_remedy_for_coroutine_in_play_works(session: LiveKitSession) -> None:
    """Contract: what the coroutine returns is played."""
    with pytest.raises(TypeError, match="got coroutine; await it"):
        await session.play(a_frame())  # type: ignore[arg-type]
    assert (await session.play(await a_frame())).played == 0.01


async def test_remedy_for_iterable_in_send_works(session: LiveKitSession) -> None:
    """Contract: tx refuses a list of frames and names `session.play`, which takes it."""
    with pytest.raises(TypeError, match="session.play"):
        await session.tx.send([FRAME])  # type: ignore[arg-type]
    assert (await session.play([FRAME])).played == 0.01


async def test_remedy_for_used_session_works() -> None:
    """Contract: a context manager is used once; another session can be opened."""
    opening = open_loopback()
    async with opening:
        pass
    with pytest.raises(RuntimeError, match="open another session"):
        await opening.__aenter__()
    async with open_loopback() as session:
        await session.send(FRAME)


async def test_remedy_for_pcm_that_ends_within_sample_works(
    session: LiveKitSession, caplog: pytest.LogCaptureFixture
) -> None:
    """Contract: with the right num_channels, whole samples leave no rest and no warning."""
    pcm = np.zeros((3, 1), np.int16).tobytes()
    for channels, warnings in ((2, 1), (1, 0)):
        caplog.clear()
        async with PcmSendStream(session.tx.clone(), num_channels=channels) as out:
            await out.send(pcm)
        found = [each for each in caplog.records if "check num_channels" in each.message]
        assert len(found) == warnings
