"""Converter and Framer: any format in, fixed frames out."""

from __future__ import annotations

import itertools
import logging
import tracemalloc
from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.audio import measure, noise

from beluga_livekit import AudioFrame, ConfigError
from beluga_livekit.audio import ChannelMixer, Converter, Resampler
from beluga_livekit.audio.framing import Framer, PcmDecoder


def test_converter_loses_nothing_when_source_format_changes() -> None:
    """Contract: a tone whose rate and channels change every 20 ms stays one tone.

    The residue is 30 dB below the tone: seams between rates of equal delay.
    """
    converter = Converter(48000, 1)
    parts, at = [], 0.0
    for rate, channels in [(16000, 1), (24000, 2), (44100, 1), (32000, 1), (22050, 2)] * 20:
        time = at + np.arange(rate // 50) / rate
        sound = np.rint(8000 * np.sin(2 * np.pi * 440 * time)).astype(np.int16)
        parts.append(converter.push(sound if channels == 1 else np.stack([sound] * 2, 1), rate))
        at += len(sound) / rate
    parts.append(converter.finish())
    out = np.concatenate(parts)
    received = measure(out, 48000)
    assert received.frequency == pytest.approx(440, abs=0.5)
    assert received.duration == pytest.approx(at, abs=0.02)
    middle = out[4800:-4800].astype(np.float64)
    time = np.arange(len(middle)) / 48000
    basis = np.stack([np.sin(2 * np.pi * 440 * time), np.cos(2 * np.pi * 440 * time)], axis=1)
    fitted = basis @ np.linalg.lstsq(basis, middle, rcond=None)[0]
    assert 20 * np.log10(np.std(middle - fitted) / np.std(fitted)) < -30
    assert received.level == pytest.approx(20 * np.log10(8000 / 32768 / np.sqrt(2)), abs=0.5)


def test_converter_downmixes_before_and_upmixes_after_resampling() -> None:
    """Contract: the cheaper order of the two stages is taken."""
    stereo = noise(1600, 2)
    down = Converter(48000, 1).push(stereo, 16000)
    assert np.array_equal(down, Resampler(16000, 48000).push(ChannelMixer(2, 1).push(stereo)))
    up = Converter(48000, 2).push(stereo[:, 0], 16000)
    assert np.array_equal(up[:, 0], Resampler(16000, 48000).push(stereo[:, 0]))
    assert np.array_equal(up[:, 0], up[:, 1])


def test_converter_reports_held_audio() -> None:
    """Contract: `holds_sound` is true while the resampler holds audio."""
    converter = Converter(48000, 1)
    assert not converter.holds_sound
    converter.push(noise(960), 48000)
    assert not converter.holds_sound
    out = converter.push(noise(320), 16000)
    assert converter.holds_sound
    assert len(out) == 960
    assert len(converter.finish()) == 120
    assert not converter.holds_sound
    assert len(converter.finish()) == 0


@given(st.lists(st.integers(0, 50), max_size=30), st.integers(1, 20), st.integers(1, 2))
def test_framer_cuts_frames_of_fixed_size(lengths: list[int], size: int, channels: int) -> None:
    """Contract: all frames have the given size, and no sample is lost."""
    framer, sound = Framer(size), noise(sum(lengths), channels)
    frames, at = [], 0
    for length in lengths:
        frames += framer.push(sound[at : at + length])
        at += length
    assert {len(frame) for frame in frames} <= {size}
    assert framer.held == len(sound) % size
    if framer.held:
        frames.append(framer.take(size))
    out = np.concatenate([*frames, sound[:0]])
    assert np.array_equal(out[: len(sound)], sound)
    assert not out[len(sound) :].any()


@given(st.binary(max_size=60), st.lists(st.integers(0, 60), max_size=8), st.integers(1, 3))
def test_pcm_decoder_does_not_depend_on_chunks(data: bytes, cuts: list[int], channels: int) -> None:
    """Contract: PCM may be cut anywhere; an incomplete last sample is dropped with one warning."""
    decoder = PcmDecoder(16000, channels)
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    chunks = [data[start:end] for start, end in itertools.pairwise(edges)]
    frames = [frame for chunk in chunks if (frame := decoder.push(chunk)) is not None]
    whole = len(data) // (2 * channels) * 2 * channels
    assert b"".join(frame.data for frame in frames) == data[:whole]
    log = logging.getLogger("beluga_livekit")
    with mock.patch.object(log, "warning") as warning:
        decoder.finish()
        decoder.finish()
    assert warning.call_count == (whole < len(data))


def test_pcm_decoder_takes_large_chunk_in_one_copy() -> None:
    """Regression: after half a sample, 50 MB took 100 MB more than themselves."""
    decoder, chunk = PcmDecoder(16000, 1), bytes(50_000_001)
    decoder.push(b"\0")
    tracemalloc.start()
    frame = decoder.push(chunk)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert frame is not None
    assert len(frame.data) == 50_000_002
    assert peak < 51_000_000


# Stages: how each is made, and pushes that it takes.
STAGES: dict[str, Callable[[], Any]] = {
    "resampler": lambda: Resampler(48000, 16000),
    "resampler_of_equal_rates": lambda: Resampler(16000, 16000),
    "resampler_one_by_one": lambda: Resampler(48000, 47999),
    "mixer": lambda: ChannelMixer(1, 2),
    "mixer_of_equal_channels": lambda: ChannelMixer(1, 1),
    "converter": lambda: Converter(48000, 2),
    "converter_of_equal_formats": lambda: Converter(16000, 1),
    "framer": lambda: Framer(160),
    "decoder": lambda: PcmDecoder(16000, 1),
}
SOUND = noise(480)
REFUSED: list[Any] = [
    SOUND.astype(np.int32), SOUND / 32768.0, SOUND.tolist(), SOUND[:, None], "sound", None, 5,
    SOUND.reshape(2, 2, 120), SOUND[0], noise(480, 9), noise(480, 2)[:, :0], np.array(["x"]),
    np.zeros(4).data, AudioFrame(b"", 16000),
]  # fmt: skip
RATES: list[Any] = [5, 0, -16000, 16000.0, True, "16000", None, 10**12]


def push(name: str, stage: Any, samples: Any, rate: Any = 16000) -> list[bytes]:
    """Push samples into a stage; return its output as bytes."""
    if "converter" in name:
        out = stage.push(samples, rate)
    elif name == "decoder" and isinstance(samples, np.ndarray) and samples.dtype == np.int16:
        out = stage.push(samples.tobytes()[:-1])
    else:
        out = stage.push(samples)
    if isinstance(out, AudioFrame):
        return [out.data]
    return [
        each.tobytes() for each in (out if isinstance(out, list) else [out]) if each is not None
    ]


@pytest.mark.parametrize("name", STAGES)
@given(st.data())
def test_refused_push_leaves_stage_unchanged(name: str, data: st.DataObject) -> None:
    """Contract: after a push that is refused, output is bit-identical to that without it."""
    stage, other = STAGES[name](), STAGES[name]()
    for number in range(data.draw(st.integers(1, 4))):
        sound = noise(data.draw(st.integers(0, 300)), seed=number)
        rate = data.draw(st.sampled_from([8000, 16000, 48000]))
        assert push(name, stage, sound, rate) == push(name, other, sound, rate)
        bad = REFUSED[data.draw(st.integers(0, len(REFUSED) - 1))]
        refused = [(bad, rate)]
        if "converter" in name:
            refused.append((sound, data.draw(st.sampled_from(RATES))))
        for samples, bad_rate in refused:
            if name == "framer" and not stage.held and np.ndim(samples) == 2:
                continue  # it takes any channels while it holds none
            if name == "decoder" and isinstance(samples, np.ndarray) and samples.dtype == np.int16:
                continue
            with pytest.raises((TypeError, ValueError)):
                push(name, stage, samples, bad_rate)
    assert push(name, stage, SOUND) == push(name, other, SOUND)


@pytest.mark.parametrize("name", [name for name in STAGES if name != "decoder"])
def test_output_shares_no_memory_with_input(name: str) -> None:
    """Contract: a caller may reuse its buffer: neither output nor state changes with it."""
    stage, other, buffer = STAGES[name](), STAGES[name](), SOUND.copy()
    parts = (slice(0, 160), slice(160, 200), slice(200, 480))  # whole frames, and the rest of one
    expected = [push(name, other, SOUND[part]) for part in parts]
    for part, right in zip(parts, expected, strict=True):
        out = stage.push(buffer[part], 16000) if "converter" in name else stage.push(buffer[part])
        buffer[part] = 7
        frames = out if isinstance(out, list) else [out]
        assert not any(np.shares_memory(each, buffer) for each in frames)
        assert [each.tobytes() for each in frames] == right
        for each in frames:
            each[:] = 9  # the caller may also change what it received
    assert push(name, stage, SOUND) == push(name, other, SOUND)


@pytest.mark.parametrize("order", ["<i2", ">i2"])
@pytest.mark.parametrize("name", [name for name in STAGES if name != "decoder"])
def test_stages_take_samples_of_any_byte_order(name: str, order: str) -> None:
    """Contract: int16 of either byte order gives the same output, in the native one."""
    swapped = SOUND.astype(order)
    assert push(name, STAGES[name](), swapped) == push(name, STAGES[name](), SOUND)


@pytest.mark.parametrize("whole", [np.int64, np.uint16, np.array])
def test_stages_take_whole_numbers_of_any_type(whole: Any) -> None:
    """Contract: rates, channels and sizes may be any type's whole numbers, and are ints."""
    one, two, size, low, high = map(whole, (1, 2, 160, 16000, 48000))
    resampler, mixer = Resampler(high, low, one), ChannelMixer(two, one, select=one)
    converter, framer = Converter(low, one), Framer(size)
    for value in (
        *(resampler.in_rate, resampler.out_rate, resampler.num_channels, mixer.in_channels),
        *(mixer.out_channels, converter.out_rate, converter.out_channels, framer.frame_size),
    ):
        assert type(value) is int
    assert len(converter.push(SOUND, low)) == len(SOUND)
    assert mixer.push(np.array([[1, 2]], np.int16)).tolist() == [2]
    assert len(framer.push(SOUND)) == 3


@pytest.mark.parametrize("wrong", [True, np.True_, 160.0, np.float64(160), "160", None, 0, -1])
def test_stages_reject_other_numbers(wrong: Any) -> None:
    """Contract: a bool, a float and a number out of range are ConfigErrors."""
    makers: list[Callable[[], object]] = [
        *(lambda: Resampler(wrong, 16000), lambda: Resampler(16000, wrong)),
        *(lambda: ChannelMixer(wrong, 1), lambda: ChannelMixer(1, wrong), lambda: Framer(wrong)),
        *(lambda: Converter(wrong), lambda: Converter(16000, wrong)),
        *(lambda: PcmDecoder(wrong, 1), lambda: PcmDecoder(16000, wrong)),
        lambda: Framer(160).take(wrong),
    ]
    for make in makers:
        with pytest.raises(ConfigError, match="whole number|8000 to 192000"):
            make()
