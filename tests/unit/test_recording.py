"""Recordings of clients: what is decoded, and what is refused before it grows."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.audio import level_of, tone
from support.recordings import EMPTY_OPUS_PACKET, encode, opus_bomb, opus_of_packets

from beluga_livekit._receive.recording import MAX_BYTES, MAX_SECONDS, decode_recording
from beluga_livekit.audio.format import WIRE_FRAME, WIRE_RATE

SOUND = tone(440, 1.0, 24000)
PCM = {"sampleRate": "24000", "channels": "1"}
WEBM = encode(SOUND, 24000)


@pytest.mark.parametrize(
    ("data", "mime_type", "attributes"),
    [
        (WEBM, "audio/webm;codecs=opus", {}),
        (encode(SOUND, 24000, container="ogg"), "audio/ogg; codecs=opus", {}),
        (SOUND.tobytes(), "", PCM),
        (SOUND.tobytes(), "application/octet-stream", PCM),
        (SOUND.tobytes(), "audio/PCM; rate=24000", PCM),
        (np.repeat(SOUND, 2).tobytes(), "", PCM | {"channels": "2"}),
    ],
    ids=["webm", "ogg", "no type", "octets", "pcm", "stereo"],
)
def test_recording_is_decoded_to_wire_frames(
    data: bytes, mime_type: str, attributes: dict[str, str]
) -> None:
    """Contract: the formats of LiveKit's clients arrive as mono frames at the wire's rate."""
    frames = decode_recording(data, mime_type, attributes)
    assert {len(frame) for frame in frames[:-1]} == {WIRE_FRAME}
    sound = np.concatenate(frames)
    assert len(sound) / WIRE_RATE == pytest.approx(1.0, abs=0.03)
    assert level_of(sound[::3], 440) == pytest.approx(0.25, abs=0.03)


@pytest.mark.parametrize(
    ("data", "mime_type", "attributes", "message"),
    [
        (SOUND.tobytes(), "audio/webm", {}, "not decodable as webm"),
        (b"", "audio/ogg", {}, "not decodable as ogg"),
        (encode(SOUND, 24000, "flac", "matroska"), "audio/webm", {}, "Opus, got flac"),
        (encode(SOUND, 24000, "flac", "ogg"), "audio/ogg", {}, "Opus, got flac"),
        (WEBM, "audio/mp4", {}, "'audio/mp4' is neither Opus in WebM or Ogg nor raw PCM"),
        (b"\0\0", "", {}, "invalid literal for int"),
        (b"\0\0", "", PCM | {"sampleRate": "1000000"}, "sample_rate must be"),
        (b"\0\0", "", PCM | {"channels": "9"}, "num_channels must be"),
        (b"\0\0\0", "", PCM, "ends within a sample: 1 of 2 bytes"),
        (bytes(MAX_BYTES), "", PCM | {"sampleRate": "8000"}, "longer than 15 s"),
    ],
)
def test_recording_of_another_format_is_refused(
    data: bytes, mime_type: str, attributes: dict[str, str], message: str
) -> None:
    """Contract: what is no Opus and no PCM is never played as noise."""
    with pytest.raises(ValueError, match=message):
        decode_recording(data, mime_type, attributes)


def test_recording_of_several_streams_is_refused() -> None:
    """Contract: the packets between those of the one stream would be read without a bound."""
    with pytest.raises(ValueError, match="one stream of Opus, got opus, opus"):
        decode_recording(encode(SOUND, 24000, streams=2), "audio/webm", {})


@pytest.mark.parametrize(
    "data",
    [
        opus_bomb(MAX_BYTES),
        encode(np.zeros(WIRE_RATE * 1500, np.int16), WIRE_RATE, "flac", "matroska"),
        opus_of_packets([EMPTY_OPUS_PACKET] * round(MAX_SECONDS / 0.12 + 2), milliseconds=120),
    ],
    ids=["opus", "flac", "barely"],
)
def test_recording_that_grows_is_refused_while_it_is_decoded(data: bytes) -> None:
    """Contract: memory is bounded by the audio decoded, not by the bytes received.

    0.2 MB of Opus had taken 516 MB: half an hour.
    """
    assert len(data) < 1.2 * MAX_BYTES
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="longer than 15 s|got flac"):
            decode_recording(data, "audio/webm", {})
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10e6


@given(st.data())
def test_recording_that_is_damaged_is_decoded_or_refused(data: st.DataObject) -> None:
    """Contract: whatever the bytes are, the only error is ValueError."""
    damaged = bytearray(WEBM)
    for _ in range(data.draw(st.integers(1, 20))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        frames = decode_recording(bytes(damaged), "audio/webm", {})
    except ValueError:
        return
    assert sum(map(len, frames)) <= (MAX_SECONDS + 0.12) * WIRE_RATE
