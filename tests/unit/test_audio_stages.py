"""The stages: what comes in goes out, at another rate and with other channels, and no later."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.audio import decibels, measure, tone

from beluga_livekit import ConfigError
from beluga_livekit.audio import ChannelMixer, Converter, Resampler
from beluga_livekit.audio.framing import Framer, PcmDecoder
from beluga_livekit.audio.resampler import _Plan

RATES = [8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 96000]
PAIRS = [(a, b) for a in RATES for b in RATES]
Samples = NDArray[np.int16]


def noise(count: int, channels: int = 1, seed: int = 0) -> Samples:
    shape = count if channels == 1 else (count, channels)
    return np.random.default_rng(seed).integers(-32768, 32768, shape).astype(np.int16)


@pytest.mark.parametrize(("in_rate", "out_rate"), PAIRS)
def test_20_ms_in_is_20_ms_out_from_the_first_push(in_rate: int, out_rate: int) -> None:
    resampler = Resampler(in_rate, out_rate)
    lengths = {len(resampler.push(noise(in_rate // 50))) for _ in range(50)}
    expected = in_rate // 50 * out_rate / in_rate
    assert all(abs(length - expected) < 1 for length in lengths)


@pytest.mark.parametrize(("in_rate", "out_rate"), [*PAIRS, (48000, 47999), (8001, 44100)])
def test_a_tone_keeps_its_pitch_and_its_level(in_rate: int, out_rate: int) -> None:
    heard = measure(Resampler(in_rate, out_rate).push(tone(440, 0.5, in_rate)), out_rate)
    assert heard.frequency == pytest.approx(440, abs=0.5)
    assert heard.level == pytest.approx(decibels(0.25), abs=0.01)


@pytest.mark.parametrize(("in_rate", "out_rate"), PAIRS)
def test_the_sound_is_late_by_the_delay_that_is_told(in_rate: int, out_rate: int) -> None:
    resampler = Resampler(in_rate, out_rate)
    assert resampler.delay == (
        0.0 if in_rate == out_rate else max(0.0025, 32 / min(in_rate, out_rate))
    )
    at = np.arange(in_rate // 2) / in_rate
    pulse = np.exp(-(((at - 0.2) / 0.002) ** 2))
    out = resampler.push(np.rint(pulse * 30000).astype(np.int16)).astype(np.float64)
    center = np.sum(out * np.arange(len(out))) / np.sum(out) / out_rate
    assert center == pytest.approx(0.2 + resampler.delay, abs=2e-5)
    assert resampler.delay_samples == pytest.approx(resampler.delay * out_rate)


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(
        [(48000, 16000), (16000, 48000), (44100, 48000), (48000, 44100), (48000, 47999)]
    ),
    st.integers(1, 3),
    st.lists(st.integers(0, 3000), min_size=1, max_size=12),
)
def test_the_result_does_not_depend_on_how_the_sound_is_cut(
    rates: tuple[int, int], channels: int, cuts: list[int]
) -> None:
    sound = noise(sum(cuts), channels)
    whole, pieces = Resampler(*rates, channels), Resampler(*rates, channels)
    expected = np.concatenate([whole.push(sound), whole.flush()])
    parts = [pieces.push(part) for part in np.split(sound, np.cumsum(cuts)[:-1])]
    assert np.array_equal(np.concatenate([*parts, pieces.flush()]), expected)
    assert len(expected) == round(len(sound) * rates[1] / rates[0])
    # ... and after flush the resampler is as new.
    assert np.array_equal(np.concatenate([pieces.push(sound), pieces.flush()]), expected)


@pytest.mark.parametrize(
    ("in_rate", "out_rate"),
    [(48000, 16000), (16000, 48000), (48000, 24000), (24000, 48000), (44100, 16000), (48000, 8000)],
)
def test_soxr_offline_agrees_on_everything_below_the_transition(
    in_rate: int, out_rate: int
) -> None:
    """An independent reference: noise of the passband, resampled by soxr at its best.

    What differs is 75 dB below the sound: rounding to int16, and what the stopband lets through.
    """
    resampler = Resampler(in_rate, out_rate)
    edge = min(in_rate, out_rate) / 2 - 2.6 / resampler.delay  # 1 kHz of transition at 2.5 ms
    rng = np.random.default_rng(3)
    bins = np.fft.rfft(rng.normal(size=in_rate))
    bins[np.fft.rfftfreq(in_rate, 1 / in_rate) > edge] = 0
    sound = np.fft.irfft(bins)
    samples = np.rint(sound / np.abs(sound).max() * 30000).astype(np.int16)
    expected = soxr.resample(samples.astype(np.float64), in_rate, out_rate, "VHQ")
    late = round(resampler.delay_samples)
    assert late == pytest.approx(resampler.delay_samples)
    out = resampler.push(samples)[late:].astype(np.float64)
    middle = slice(out_rate // 10, len(out) - out_rate // 10)
    difference = out[middle] - expected[: len(out)][middle]
    assert 20 * np.log10(np.std(difference) / np.std(expected[middle])) < -75


def test_instances_share_tables_and_nothing_else() -> None:
    one, other, alone = (Resampler(48000, 16000) for _ in range(3))
    assert one._plan is other._plan
    for number in range(20):
        sound = noise(960, seed=number)
        interleaved = one.push(sound)
        other.push(noise(777, seed=number + 100))
        assert np.array_equal(interleaved, alone.push(sound))
    one.reset()
    assert np.array_equal(one.push(sound), Resampler(48000, 16000).push(sound))


def test_channels_do_not_mix() -> None:
    left, right = noise(9600, seed=1), noise(9600, seed=2)
    both = Resampler(48000, 16000, 2).push(np.stack([left, right], axis=1))
    assert np.array_equal(both[:, 0], Resampler(48000, 16000).push(left))
    assert np.array_equal(both[:, 1], Resampler(48000, 16000).push(right))


@pytest.mark.parametrize(("in_rate", "out_rate"), [(48000, 16000), (44100, 48000), (48000, 47999)])
def test_the_weights_of_every_output_are_exact(in_rate: int, out_rate: int) -> None:
    plan = _Plan.of(in_rate, out_rate)
    if plan.matrices is not None:
        sums, weights = plan.matrices.sum(axis=1), plan.matrices
    else:
        assert plan.phases is not None
        sums, weights = plan.phases.sum(axis=1), plan.phases
    assert (sums == 1.0).all()
    assert (weights * 2**30 % 1 == 0).all()


@pytest.mark.parametrize(("in_rate", "out_rate"), [(48000, 16000), (44100, 48000), (8000, 96000)])
@pytest.mark.parametrize("value", [0, 1, -1, 12345, -32768, 32767])
def test_a_constant_stays_that_constant(in_rate: int, out_rate: int, value: int) -> None:
    resampler = Resampler(in_rate, out_rate)
    resampler.push(np.full(in_rate // 10, value, np.int16))
    assert (resampler.push(np.full(in_rate // 10, value, np.int16)) == value).all()


def test_full_scale_clips_and_never_wraps() -> None:
    square = np.where(np.arange(48000) // 120 % 2, 32767, -32768).astype(np.int16)
    out = Resampler(48000, 16000).push(square).astype(np.int32)
    assert out.max() == 32767
    assert out.min() == -32768
    assert np.abs(np.diff(out)).max() < 60000  # a wrap would step by 65535


@pytest.mark.parametrize("rates", [(0, 16000), (16000, -1), (16000.0, 8000), (True, 8000)])
def test_wrong_rates_are_refused(rates: Any) -> None:
    with pytest.raises(ConfigError, match="positive whole number of Hz"):
        Resampler(*rates)


@pytest.mark.parametrize(
    ("channels", "samples", "error"),
    [
        (1, np.zeros(4, np.int32), TypeError),
        (1, np.zeros(4), TypeError),
        (1, [0, 0], TypeError),
        (1, np.zeros((4, 1), np.int16), ValueError),
        (2, np.zeros(4, np.int16), ValueError),
        (2, np.zeros((4, 3), np.int16), ValueError),
    ],
)
def test_wrong_samples_are_refused_and_change_nothing(
    channels: int, samples: Any, error: type[Exception]
) -> None:
    sound = noise(960, channels)
    resampler, mixer = Resampler(48000, 16000, channels), ChannelMixer(channels, 1)
    before = resampler.push(sound)
    for stage in (resampler, mixer):
        with pytest.raises(error, match="expected"):
            stage.push(samples)
    again = Resampler(48000, 16000, channels)
    assert np.array_equal(before, again.push(sound))
    assert np.array_equal(resampler.push(sound), again.push(sound))


def test_stereo_to_mono_is_the_mean_and_mono_to_stereo_is_twice_the_same() -> None:
    stereo = np.array([[10000, 2000], [32767, 32767], [-32768, -32768], [5, -5]], np.int16)
    mono = ChannelMixer(2, 1).push(stereo)
    assert mono.tolist() == [6000, 32767, -32768, 0]
    assert ChannelMixer(1, 2).push(mono).tolist() == [[value, value] for value in mono]


@given(st.integers(1, 8), st.integers(1, 8))
def test_any_channels_become_any_channels(ins: int, outs: int) -> None:
    sound = noise(100, ins)
    rows = sound.reshape(-1, ins).astype(np.float64)
    out = ChannelMixer(ins, outs).push(sound).reshape(-1, outs)
    for channel in range(outs):
        heard = [i for i in range(ins) if i % outs == channel] or [channel % ins]
        assert np.abs(out[:, channel] - rows[:, heard].mean(axis=1)).max() <= 1


def test_one_side_of_a_telephone_call() -> None:
    stereo = noise(100, 2)
    assert np.array_equal(ChannelMixer(2, 1, select=1).push(stereo), stereo[:, 1])
    assert np.array_equal(ChannelMixer(2, 2, select=0).push(stereo)[:, 1], stereo[:, 0])


def test_gains_of_the_users_own_clip() -> None:
    mixer = ChannelMixer(2, 1, matrix=[[1.0], [1.0]])
    assert mixer.push(np.array([[20000, 20000], [1, 2]], np.int16)).tolist() == [32767, 3]


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"select": 2}, "0 to 1"),
        ({"matrix": [[1.0, 1.0]]}, "shape"),
        ({"matrix": [[1.0], [float("nan")]]}, "NaN"),
        ({"select": 0, "matrix": [[1.0], [1.0]]}, "not both"),
    ],
)
def test_wrong_gains_are_refused(keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ChannelMixer(2, 1, **keywords)


def test_a_mixer_has_the_resamplers_other_methods() -> None:
    mixer = ChannelMixer(1, 2)
    mixer.reset()
    assert mixer.flush().shape == (0, 2)


def test_a_converter_follows_its_source_and_loses_nothing() -> None:
    """One tone, whose every 20 ms come at another rate and with other channels.

    What is not the tone is 30 dB below it: the seams of rates that are late by the same.
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
    heard = measure(out, 48000)
    assert heard.frequency == pytest.approx(440, abs=0.5)
    assert heard.duration == pytest.approx(at, abs=0.02)
    middle = out[4800:-4800].astype(np.float64)
    time = np.arange(len(middle)) / 48000
    basis = np.stack([np.sin(2 * np.pi * 440 * time), np.cos(2 * np.pi * 440 * time)], axis=1)
    fitted = basis @ np.linalg.lstsq(basis, middle, rcond=None)[0]
    assert 20 * np.log10(np.std(middle - fitted) / np.std(fitted)) < -30
    assert heard.level == pytest.approx(20 * np.log10(8000 / 32768 / np.sqrt(2)), abs=0.5)


def test_a_converter_mixes_down_before_and_up_after_resampling() -> None:
    stereo = noise(1600, 2)
    down = Converter(48000, 1).push(stereo, 16000)
    assert np.array_equal(down, Resampler(16000, 48000).push(ChannelMixer(2, 1).push(stereo)))
    up = Converter(48000, 2).push(stereo[:, 0], 16000)
    assert np.array_equal(up[:, 0], Resampler(16000, 48000).push(stereo[:, 0]))
    assert np.array_equal(up[:, 0], up[:, 1])


def test_a_converter_says_whether_it_holds_sound() -> None:
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
def test_a_framer_cuts_to_size(lengths: list[int], size: int, channels: int) -> None:
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
