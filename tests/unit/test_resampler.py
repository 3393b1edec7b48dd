"""Resampler: pitch, level, delay and bit-exact splitting."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st
from support.audio import decibels, measure, noise, tone

from beluga_livekit import ConfigError
from beluga_livekit.audio import ChannelMixer, Resampler
from beluga_livekit.audio.resampler import _Plan

RATES = [8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 96000]
PAIRS = [(a, b) for a in RATES for b in RATES]


@pytest.mark.parametrize(("in_rate", "out_rate"), PAIRS)
def test_resampler_returns_same_duration_from_first_push(in_rate: int, out_rate: int) -> None:
    """Contract: 20 ms in give 20 ms out, from the first push on."""
    resampler = Resampler(in_rate, out_rate)
    lengths = {len(resampler.push(noise(in_rate // 50))) for _ in range(50)}
    expected = in_rate // 50 * out_rate / in_rate
    assert all(abs(length - expected) < 1 for length in lengths)


@pytest.mark.parametrize(("in_rate", "out_rate"), [*PAIRS, (48000, 47999), (8001, 44100)])
def test_resampler_keeps_pitch_and_level(in_rate: int, out_rate: int) -> None:
    """Contract: a tone keeps its frequency within 0.5 Hz and its level within 0.01 dB."""
    received = measure(Resampler(in_rate, out_rate).push(tone(440, 0.5, in_rate)), out_rate)
    assert received.frequency == pytest.approx(440, abs=0.5)
    assert received.level == pytest.approx(decibels(0.25), abs=0.01)


@pytest.mark.parametrize(("in_rate", "out_rate"), PAIRS)
def test_resampler_delay_matches_reported_delay(in_rate: int, out_rate: int) -> None:
    """Contract: audio is delayed by `delay` seconds, exactly."""
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


@settings(max_examples=60)
@given(
    st.sampled_from(
        [(48000, 16000), (16000, 48000), (44100, 48000), (48000, 44100), (48000, 47999)]
    ),
    st.integers(1, 3),
    st.lists(st.integers(0, 3000), min_size=1, max_size=12),
)
def test_resampler_output_is_independent_of_push_sizes(
    rates: tuple[int, int], channels: int, cuts: list[int]
) -> None:
    """Contract: output is bit-exact however the input is split, and flush() resets the stage."""
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
def test_resampler_matches_soxr_below_transition(in_rate: int, out_rate: int) -> None:
    """Contract: passband noise equals soxr's best quality, an independent reference.

    The difference is 75 dB below the signal: rounding to int16, and stopband leakage.
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


def test_resamplers_share_tables_but_no_state() -> None:
    """Contract: instances of one rate pair share the filter tables only."""
    one, other, alone = (Resampler(48000, 16000) for _ in range(3))
    assert one._plan is other._plan
    for number in range(20):
        sound = noise(960, seed=number)
        interleaved = one.push(sound)
        other.push(noise(777, seed=number + 100))
        assert np.array_equal(interleaved, alone.push(sound))
    one.reset()
    assert np.array_equal(one.push(sound), Resampler(48000, 16000).push(sound))


def test_resampler_keeps_channels_separate() -> None:
    """Contract: each channel is resampled as if alone."""
    left, right = noise(9600, seed=1), noise(9600, seed=2)
    both = Resampler(48000, 16000, 2).push(np.stack([left, right], axis=1))
    assert np.array_equal(both[:, 0], Resampler(48000, 16000).push(left))
    assert np.array_equal(both[:, 1], Resampler(48000, 16000).push(right))


@pytest.mark.parametrize(("in_rate", "out_rate"), [(48000, 16000), (44100, 48000), (48000, 47999)])
def test_resampler_weights_are_exact(in_rate: int, out_rate: int) -> None:
    """Contract: the weights of each output sample sum to exactly 1."""
    plan = _Plan(in_rate, out_rate)
    if plan.matrices is not None:
        sums, weights = plan.matrices.sum(axis=1), plan.matrices
    else:
        assert plan.phases is not None
        sums, weights = plan.phases.sum(axis=1), plan.phases
    assert (sums == 1.0).all()
    assert (weights * 2**30 % 1 == 0).all()


@pytest.mark.parametrize(("in_rate", "out_rate"), [(48000, 16000), (44100, 48000), (8000, 96000)])
@pytest.mark.parametrize("value", [0, 1, -1, 12345, -32768, 32767])
def test_resampler_keeps_constant(in_rate: int, out_rate: int, value: int) -> None:
    """Contract: a constant signal stays exactly constant."""
    resampler = Resampler(in_rate, out_rate)
    resampler.push(np.full(in_rate // 10, value, np.int16))
    assert (resampler.push(np.full(in_rate // 10, value, np.int16)) == value).all()


def test_resampler_clips_at_full_scale() -> None:
    """Contract: overshoot of a full-scale signal clips and never wraps."""
    square = np.where(np.arange(48000) // 120 % 2, 32767, -32768).astype(np.int16)
    out = Resampler(48000, 16000).push(square).astype(np.int32)
    assert out.max() == 32767
    assert out.min() == -32768
    assert np.abs(np.diff(out)).max() < 60000  # a wrap would step by 65535


@pytest.mark.parametrize("rates", [(0, 16000), (16000, -1), (16000.0, 8000), (True, 8000)])
def test_resampler_rejects_wrong_rates(rates: Any) -> None:
    """Contract: rates are positive whole numbers of Hz."""
    with pytest.raises(ConfigError, match="positive whole number"):
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
def test_stages_reject_wrong_samples_and_keep_state(
    channels: int, samples: Any, error: type[Exception]
) -> None:
    """Contract: a rejected push leaves the state untouched."""
    sound = noise(960, channels)
    resampler, mixer = Resampler(48000, 16000, channels), ChannelMixer(channels, 1)
    before = resampler.push(sound)
    for stage in (resampler, mixer):
        with pytest.raises(error, match="expected"):
            stage.push(samples)
    again = Resampler(48000, 16000, channels)
    assert np.array_equal(before, again.push(sound))
    assert np.array_equal(resampler.push(sound), again.push(sound))
