"""Audio files given as raw PCM: recognised by their first bytes."""

from __future__ import annotations

import functools
import io
from typing import Any

import av
import numpy as np
import pytest
import soundfile
from hypothesis import example, given
from hypothesis import strategies as st
from support.audio import noise

from beluga_livekit import AudioFrame, ConfigError
from beluga_livekit.audio.container import MAX_HEAD, check_is_raw
from beluga_livekit.audio.framing import PcmDecoder

SOUND = noise(24_000)
SOUNDFILE = [
    *("WAV PCM_16", "WAVEX PCM_16", "RF64 PCM_16", "W64 PCM_16", "AIFF PCM_16", "AU PCM_16"),
    *("CAF PCM_16", "FLAC PCM_16", "OGG VORBIS", "OGG OPUS", "MP3 MPEG_LAYER_III"),
]
PYAV = ["webm libopus", "matroska aac", "mp4 aac", "adts aac", "mp3 libmp3lame"]


@functools.cache
def file_of(kind: str) -> bytes:
    """Return an audio file, by its container and codec."""
    container, codec = kind.split()
    file = io.BytesIO()
    if kind in SOUNDFILE:
        soundfile.write(file, SOUND, 48_000, format=container, subtype=codec)
        return file.getvalue()
    with av.open(file, "w", format=container) as output:
        stream: Any = output.add_stream(codec, rate=48_000)
        frame = av.AudioFrame.from_ndarray(SOUND[None], format="s16", layout="mono")
        frame.rate = 48_000
        for packet in (*stream.encode(frame), *stream.encode(None)):
            output.mux(packet)
    return file.getvalue()


@pytest.mark.parametrize("piece", [1, 7, 1000, 1_000_000])
@pytest.mark.parametrize("kind", [*SOUNDFILE, *PYAV])
def test_pcm_decoder_refuses_audio_file(kind: str, piece: int) -> None:
    """Contract: the bytes of a file are an error that names the remedy, however they are cut."""
    data, decoder = file_of(kind)[:MAX_HEAD], PcmDecoder(16_000, 1)
    remedy = "soundfile .*wave" if kind in SOUNDFILE or "mp3" in kind else "PyAV"
    with pytest.raises(ConfigError, match=f"not raw PCM; decode it with {remedy}.*AudioFrame"):
        for at in range(0, len(data), piece):
            decoder.push(data[at : at + piece])


@pytest.mark.parametrize(
    "head",
    [
        b"RIFF\0\0\0\0AVI LIST",  # no WAVE
        b"ID3\x09" + bytes(12),  # no such version
        b"OggS\x01\x00",
        b"\x00\x00\x00\x1cfree",
        b"\xff\xff" * 8,  # -1: a bit rate that does not exist
        b"\xff\xfb\x94\xc4" + bytes(2000),  # the header of an MP3 frame, and no second one
        b"\xff\xfb\x94\xc4" + bytes(380) + b"\xff\xf3\x94\xc4" + bytes(12),  # of another version
        b"\xff\xfb\x94\xc4" + bytes(380) + b"\xff\xfb\xf4\xc4" + bytes(12),  # no bit rate
        b"\xff\xf1L\x80%_\xfc" + bytes(9001),  # of an AAC frame
        bytes(2000),
    ],
)
def test_pcm_that_resembles_file_is_decoded(head: bytes) -> None:
    """Contract: a part of a magic number is PCM like any other bytes."""
    frame = PcmDecoder(16_000, 1).push(head)
    assert frame is not None
    assert frame.data == head
    assert check_is_raw(head)


@given(st.binary(max_size=3000), st.sampled_from([b"", b"\xff", b"\xff\xfb", b"ID3", b"RIFF"]))
@example(b"", b"RIFF")
def test_raw_pcm_is_never_taken_for_file(data: bytes, start: bytes) -> None:
    """Contract: only a complete header is refused."""
    check_is_raw(start + data)


def test_pcm_decoder_checks_beginning_of_stream_only() -> None:
    """Contract: samples may have the bytes of a header anywhere behind the first ones."""
    decoder = PcmDecoder(16_000, 1)
    decoder.push(np.arange(100, dtype="<i2").tobytes())
    frame = decoder.push(file_of("WAV PCM_16"))
    assert frame is not None
    assert len(frame.data) == len(file_of("WAV PCM_16"))


def test_remedy_for_files_works() -> None:
    """Contract: what the errors advise gives the sound of the file."""
    samples, sample_rate = soundfile.read(io.BytesIO(file_of("WAV PCM_16")))
    assert np.array_equal(AudioFrame.from_samples(samples, sample_rate).samples, SOUND)
