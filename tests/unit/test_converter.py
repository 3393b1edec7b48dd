"""Converter and Framer: any format in, fixed frames out."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.audio import measure, noise

from beluga_livekit import ConfigError
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
    """Contract: PCM may be cut anywhere; an incomplete last sample is a ValueError."""
    decoder = PcmDecoder(16000, channels)
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    chunks = [data[start:end] for start, end in itertools.pairwise(edges)]
    frames = [frame for chunk in chunks if (frame := decoder.push(chunk)) is not None]
    whole = len(data) // (2 * channels) * 2 * channels
    assert b"".join(frame.data for frame in frames) == data[:whole]
    if whole == len(data):
        decoder.finish()
        return
    with pytest.raises(ValueError, match="ended within a sample") as caught:
        decoder.finish()
    assert not isinstance(caught.value, ConfigError)  # it is the data, and no argument
