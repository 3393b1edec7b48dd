"""AudioFrame: audio and its format, validated."""

from __future__ import annotations

import pickle
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from livekit import rtc

from beluga_livekit import AudioFrame, ConfigError


def test_frame_reports_length_and_duration() -> None:
    """Contract: samples_per_channel and duration follow from the bytes and the format."""
    frame = AudioFrame(bytes(640), 16000)
    assert frame.samples_per_channel == 320
    assert frame.duration == pytest.approx(0.02)
    assert frame.num_channels == 1
    assert AudioFrame(bytes(640), 16000, 2).samples_per_channel == 160


def test_samples_have_soundfile_shape_and_are_read_only() -> None:
    """Contract: `samples` has soundfile's shape, (n,) or (n, channels), and is read-only."""
    assert AudioFrame(bytes(640), 16000).samples.shape == (320,)
    stereo = AudioFrame(np.arange(6, dtype="<i2").tobytes(), 48000, 2).samples
    assert stereo.tolist() == [[0, 1], [2, 3], [4, 5]]
    with pytest.raises(ValueError, match="read-only"):
        stereo[0, 0] = 1


@given(st.binary(max_size=400), st.integers(8000, 192000), st.integers(1, 8))
def test_frame_survives_array_float_and_pickle_round_trips(
    data: bytes, rate: int, channels: int
) -> None:
    """Contract: arrays, floats and pickles carry any whole number of samples unchanged."""
    whole = data[: len(data) // (2 * channels) * 2 * channels]
    frame = AudioFrame(whole, rate, channels)
    if channels == 1 or frame.samples_per_channel:
        assert AudioFrame.from_samples(frame.samples, rate) == frame
        assert AudioFrame.from_samples(frame.to_float(), rate) == frame
    assert pickle.loads(pickle.dumps(frame)) == frame


def test_float_samples_are_clipped_not_wrapped() -> None:
    """Contract: floats beyond full scale clip."""
    frame = AudioFrame.from_samples(np.array([-2.0, -1.0, 0.0, 0.5, 1.0, 2.0]), 16000)
    assert frame.samples.tolist() == [-32768, -32768, 0, 16384, 32767, 32767]
    assert frame.to_float().dtype == np.float32
    assert frame.to_float().tolist() == pytest.approx([-1, -1, 0, 0.5, 1, 1], abs=1e-4)


@pytest.mark.parametrize(
    "dtype", ["f2", "f4", "f8", "g", ">f2", ">f4", ">f8", "i2", ">i2", "i4", ">i4", "i8", ">i8"]
)
def test_from_samples_clips_every_real_dtype_at_full_scale(dtype: str) -> None:
    """Contract: floats and signed integers of any width and byte order clip and never wrap."""
    full = 1.0 if "f" in dtype or dtype == "g" else 32768.0
    values = np.array([1.0, -1.0, 0.5, -0.25, 0.0, 1.5, -1.5])[: 7 if "i2" not in dtype else 0]
    samples = (values * full).astype(dtype)
    if "i2" in dtype:
        samples = np.array([32767, -32768, 16384, -8192, 0, 32767, -32768], dtype)
    out = AudioFrame.from_samples(samples, 16000).samples
    assert out.tolist() == [32767, -32768, 16384, -8192, 0, 32767, -32768]


@pytest.mark.parametrize("dtype", ["u1", "u2", ">u4", "u8", "i1", "?", "c8", "O", "U1", "M8[s]"])
def test_from_samples_rejects_dtype_without_one_scale(dtype: str) -> None:
    """Contract: a dtype whose full scale or silence is ambiguous is a TypeError that names it."""
    with pytest.raises(TypeError, match=re.escape(f"got {np.dtype(dtype)}")):
        AudioFrame.from_samples(np.zeros(4, dtype), 16000)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4", "g"])
def test_from_samples_rejects_floats_on_scale_of_int16(dtype: str) -> None:
    """Contract: floats beyond 2.0 are no overshoot; the error names both scales."""
    loud = np.array([0.0, -2.5], dtype)
    with pytest.raises(ValueError, match=r"\[-1, 1\]; on the scale of int16, .*astype\(np.int16"):
        AudioFrame.from_samples(loud, 16000)
    assert AudioFrame.from_samples(loud / 1.25, 16000).samples.tolist() == [0, -32768]


@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "g"])
def test_from_samples_rejects_nan_and_infinity(dtype: str, value: float) -> None:
    """Contract: NaN and infinity are errors, at any place and in any float dtype."""
    for at in range(3):
        samples = np.zeros(3, dtype)
        samples[at] = value
        with pytest.raises(ValueError, match="NaN or infinity"):
            AudioFrame.from_samples(samples, 16000)


def test_frame_takes_whole_numbers_of_any_type() -> None:
    """Contract: a format may be any type's whole numbers, and is stored as int."""
    frame = AudioFrame(bytes(8), np.int64(16000), np.uint8(2))
    assert (type(frame.sample_rate), type(frame.num_channels)) == (int, int)
    assert frame == AudioFrame(bytes(8), 16000, 2)
    rate: Any = np.uint16(16000)
    assert AudioFrame.from_samples(np.array([0.0, 0.5]), rate).samples.tolist() == [0, 16384]
    wrongs: list[Any] = [True, np.True_, 16000.0, np.float64(16000), "16000", None]
    for wrong in wrongs:
        with pytest.raises(ConfigError, match="whole number of Hz"):
            AudioFrame(b"", wrong)
        with pytest.raises(ConfigError, match="whole number from 1"):
            AudioFrame(b"", 16000, wrong)


def test_frame_rejects_view_of_other_samples() -> None:
    """Contract: a memoryview of floats is no PCM; one of bytes or of int16 is."""
    with pytest.raises(TypeError, match="int16, got a view of format 'f'"):
        AudioFrame(np.zeros(4, np.float32).data, 16000)
    assert AudioFrame(np.ones(1, np.int16).data, 16000).data == b"\1\0"


def test_mutable_bytes_are_copied() -> None:
    """Contract: a frame never changes after its construction."""
    buffer = bytearray(4)
    frame = AudioFrame(buffer, 16000)
    buffer[0] = 1
    assert frame.data == bytes(4)
    assert AudioFrame(memoryview(b"abcd"), 16000).data == b"abcd"


@pytest.mark.parametrize(
    ("data", "rate", "channels", "message"),
    [
        (bytes(3), 16000, 1, "multiple of 2 bytes"),
        (bytes(6), 16000, 2, "multiple of 4 bytes"),
        (bytes(4), 7999, 1, "8000 to 192000 Hz"),
        (bytes(4), 192001, 1, "8000 to 192000 Hz"),
        (bytes(4), 16000.0, 1, "whole number of Hz"),
        (bytes(4), True, 1, "whole number of Hz"),
        (bytes(4), 16000, 0, "1 to 8"),
        (bytes(18), 16000, 9, "1 to 8"),
    ],
)
def test_frame_rejects_wrong_format(data: bytes, rate: int, channels: int, message: str) -> None:
    """Contract: a format out of range is a ConfigError that states the limits."""
    with pytest.raises(ConfigError, match=message):
        AudioFrame(data, rate, channels)


def test_frame_rejects_array_as_data_and_names_from_samples() -> None:
    """Contract: `data` takes bytes only; the error names the method for arrays."""
    with pytest.raises(TypeError, match="from_samples"):
        AudioFrame(np.zeros(4, np.int16), 16000)
    with pytest.raises(TypeError, match="got str"):
        AudioFrame("sound", 16000)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((1, 320)), "transpose"),
        (np.zeros((4, 4, 4)), "shape"),
        (np.array([0, -70_000]), "reach 70000, expected integers"),
        (np.array([-(2**63)]), "reach 9.22337e.18, expected integers"),
    ],
)
def test_from_samples_rejects_wrong_array(array: np.ndarray, message: str) -> None:
    """Contract: a wrong shape, dtype or value is rejected with the reason."""
    with pytest.raises((TypeError, ValueError), match=message):
        AudioFrame.from_samples(array, 16000)


def test_concatenate_keeps_common_fields() -> None:
    """Contract: joined frames keep equal fields, the first timestamp and the summed loss."""
    one = AudioFrame(b"ab", 16000, participant="ann", track_sid="x", timestamp=1.0, lost=0.5)
    two = AudioFrame(b"cd", 16000, participant="ann", track_sid="y", timestamp=2.0, lost=0.25)
    joined = AudioFrame.concatenate([one, two])
    assert joined.data == b"abcd"
    assert (joined.participant, joined.track_sid) == ("ann", None)
    assert (joined.timestamp, joined.lost) == (1.0, 0.75)
    with pytest.raises(ValueError, match="no frames"):
        AudioFrame.concatenate([])
    with pytest.raises(ValueError, match="16000 Hz x 1, 48000 Hz x 1"):
        AudioFrame.concatenate([one, AudioFrame(b"ab", 48000)])


def test_repr_is_short_and_omits_samples() -> None:
    """Contract: the repr names length, format, participant and loss, never samples."""
    frame = AudioFrame(bytes(640), 16000, participant="ann", lost=0.1)
    assert repr(frame) == "<AudioFrame 20 ms, 16000 Hz x 1 from 'ann', 0.100 s lost before>"


@pytest.mark.parametrize("channels", [1, 2, 8])
def test_audio_frame_makes_the_round_trip_through_rtc(channels: int) -> None:
    """Contract: from_rtc undoes to_rtc."""
    samples = np.random.default_rng(1).integers(-32768, 32768, (480, channels), np.int16)
    frame = AudioFrame(samples.tobytes(), 24000, channels)
    sdk_frame = frame.to_rtc()
    assert isinstance(sdk_frame, rtc.AudioFrame)
    assert (sdk_frame.sample_rate, sdk_frame.num_channels) == (24000, channels)
    assert sdk_frame.samples_per_channel == 480
    assert AudioFrame.from_rtc(sdk_frame) == frame
    again = AudioFrame.from_rtc(sdk_frame).to_rtc()
    assert bytes(again.data) == bytes(sdk_frame.data)


def test_audio_frame_to_rtc_carries_samples_and_format_only() -> None:
    """Contract: an rtc.AudioFrame has no place for participant, track and timestamp."""
    frame = AudioFrame(b"abcd", 16000, participant="ann", track_sid="t", timestamp=1.0, lost=0.5)
    assert AudioFrame.from_rtc(frame.to_rtc()) == AudioFrame(b"abcd", 16000)
    assert AudioFrame.from_rtc(AudioFrame(b"", 16000).to_rtc()).samples_per_channel == 0


def test_audio_frame_from_rtc_copies_the_samples() -> None:
    """Contract: a frame never changes after its construction."""
    sdk_frame = rtc.AudioFrame.create(16000, 1, 2)
    frame = AudioFrame.from_rtc(sdk_frame)
    sdk_frame.data[0] = 7
    assert frame.data == bytes(4)


def test_audio_frame_from_rtc_refuses_a_format_out_of_range() -> None:
    """Contract: a format out of range is a ConfigError."""
    with pytest.raises(ConfigError, match="8000 to 192000 Hz"):
        AudioFrame.from_rtc(rtc.AudioFrame.create(4000, 1, 2))
