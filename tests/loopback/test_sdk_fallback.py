"""The package works without the SDK's private names, as a later release may have moved them.

Each test runs a process of its own, which removes a name before it imports the package.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow_audio

# The SDK itself uses FfiQueue once, when its native side is started.
WITHOUT_QUEUE = """
from livekit.rtc import _ffi_client
_ffi_client.FfiClient.instance
del _ffi_client.FfiQueue
"""
WITHOUT_REQUEST = """
from livekit.rtc._proto import audio_frame_pb2
del audio_frame_pb2.CaptureAudioFrameRequest
"""

PLAYS = """
import sys
import anyio, numpy as np
from beluga_livekit import AudioFrame, open_loopback
from beluga_livekit._sdk import private_names

assert not private_names.SUPPORTED
TONE = (8000 * np.sin(np.arange(1, 9601) / 10)).astype(np.int16)

async def main():
    async with open_loopback(sample_rate=48000) as session:
        playout = await session.play(AudioFrame.from_samples(TONE, 48000))
        assert playout.played == 0.2, playout
        received = np.zeros(0, np.int16)
        with anyio.fail_after(10):
            while len(received) < len(TONE):
                frame = await session.receive()
                if len(received) or frame.samples.any():
                    received = np.concatenate([received, frame.samples])
        start = np.flatnonzero(received)[0]
        assert np.array_equal(received[start : start + 9000], TONE[:9000])

anyio.run(main)
sys.exit(7)
"""

FAILS = """
import sys
import anyio, numpy as np
from beluga_livekit import LiveKitError
from beluga_livekit._sdk import audio_source, private_names

assert not private_names.SUPPORTED
SILENCE = np.zeros(960, np.int16)

async def main():
    source = audio_source.AudioSource(48000, 1, 20)
    other = audio_source.AudioSource(48000, 1, 20)
    other.rtc = source.rtc
    await source.capture(SILENCE)
    await source.capture(SILENCE)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(source.capture, SILENCE)  # waits for a tick, and the SDK refuses others
        tasks.start_soon(other.capture, SILENCE)
    try:
        await other.wait_until_answered()
    except LiveKitError as error:
        assert "audio capture failed: " in str(error), error
        sys.exit(7)

anyio.run(main)
"""


def exit_code(code: str) -> int:
    return subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode


@pytest.mark.parametrize("prelude", [WITHOUT_QUEUE, WITHOUT_REQUEST], ids=["module", "message"])
def test_play_works_when_a_private_name_of_the_sdk_is_missing(prelude: str) -> None:
    """Contract: the SDK's private names fall back when a release moves them."""
    assert exit_code(prelude + PLAYS) == 7


def test_capture_fails_with_livekit_error_when_a_private_name_is_missing() -> None:
    """Contract: `AudioSource.capture` raises LiveKitError; the SDK raises a bare Exception."""
    assert exit_code(WITHOUT_QUEUE + FAILS) == 7
