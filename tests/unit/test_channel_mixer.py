"""ChannelMixer: downmix, upmix, selection and custom gains."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.audio import noise

from beluga_livekit.audio import ChannelMixer


def test_channel_mixer_averages_stereo_and_doubles_mono() -> None:
    """Contract: downmix is the mean, upmix a copy."""
    stereo = np.array([[10000, 2000], [32767, 32767], [-32768, -32768], [5, -5]], np.int16)
    mono = ChannelMixer(2, 1).push(stereo)
    assert mono.tolist() == [6000, 32767, -32768, 0]
    assert ChannelMixer(1, 2).push(mono).tolist() == [[value, value] for value in mono]


@given(st.integers(1, 8), st.integers(1, 8))
def test_channel_mixer_maps_any_channel_counts(ins: int, outs: int) -> None:
    """Contract: every pair of channel counts is possible, with even gains."""
    sound = noise(100, ins)
    rows = sound.reshape(-1, ins).astype(np.float64)
    out = ChannelMixer(ins, outs).push(sound).reshape(-1, outs)
    for channel in range(outs):
        received = [i for i in range(ins) if i % outs == channel] or [channel % ins]
        assert np.abs(out[:, channel] - rows[:, received].mean(axis=1)).max() <= 1


def test_channel_mixer_selects_one_channel() -> None:
    """Contract: `select` takes one channel, such as one side of a telephone call."""
    stereo = noise(100, 2)
    assert np.array_equal(ChannelMixer(2, 1, select=1).push(stereo), stereo[:, 1])
    assert np.array_equal(ChannelMixer(2, 2, select=0).push(stereo)[:, 1], stereo[:, 0])


def test_channel_mixer_clips_custom_matrix() -> None:
    """Contract: sums by a custom `matrix` clip at full scale."""
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
def test_channel_mixer_rejects_wrong_gains(keywords: dict[str, Any], message: str) -> None:
    """Contract: `select` and `matrix` are validated."""
    with pytest.raises(ValueError, match=message):
        ChannelMixer(2, 1, **keywords)


def test_channel_mixer_has_reset_and_flush() -> None:
    """Contract: all stages have the same methods."""
    mixer = ChannelMixer(1, 2)
    mixer.reset()
    assert mixer.flush().shape == (0, 2)
