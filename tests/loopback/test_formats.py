"""Formats of rx and tx on a loopback: rate, channels, frame size, and the resampler."""

from __future__ import annotations

import anyio
import numpy as np
import pytest
from support.audio import (
    FORMATS,
    LOUD,
    QUIET_AFTER,
    assert_is_tone,
    decibels,
    frames_of_tone,
    frames_of_tone_in_changing_formats,
    measure,
    receive_until_silent,
    samples_of,
    send_frames,
    split_into_frames,
    tone,
)

from beluga_livekit import AudioFrame, LiveKitSession, open_loopback

pytestmark = pytest.mark.anyio


async def send_and_receive(
    session: LiveKitSession, frames: list[AudioFrame], after: float = QUIET_AFTER
) -> list[AudioFrame]:
    """Send frames and return everything received until silence follows."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(send_frames, session.tx, frames)
        return await receive_until_silent(session.rx, after=after)
    raise AssertionError  # For type checkers: a task group may absorb an error.


@pytest.mark.slow_audio
@pytest.mark.parametrize(("rate", "channels"), FORMATS)
async def test_rx_frames_have_requested_format(rate: int, channels: int) -> None:
    """Contract: rx has the requested rate and channels, and 20 ms frames."""
    async with open_loopback(sample_rate=rate, num_channels=channels) as session:
        frames = await send_and_receive(session, frames_of_tone(500, 0.5, 16000, channels=channels))
    assert {(f.sample_rate, f.num_channels, f.participant) for f in frames} == {
        (rate, channels, "loopback")
    }
    assert {f.samples_per_channel for f in frames} == {round(rate * 0.02)}
    sound = samples_of(frames).reshape(-1, channels)
    for channel in range(channels):  # The right channel is an octave above the left.
        received = measure(np.ascontiguousarray(sound[:, channel]), rate)
        assert_is_tone(received, 500 * 2**channel, 0.5)


@pytest.mark.slow_audio
@pytest.mark.parametrize(("rate", "channels"), FORMATS)
async def test_tx_accepts_any_format(rate: int, channels: int) -> None:
    """Contract: tx takes any rate and channel count."""
    async with open_loopback(sample_rate=48000, num_channels=channels) as session:
        frames = await send_and_receive(session, frames_of_tone(500, 0.5, rate, channels=channels))
    sound = samples_of(frames).reshape(-1, channels)
    for channel in range(channels):
        received = measure(np.ascontiguousarray(sound[:, channel]), 48000)
        assert_is_tone(received, 500 * 2**channel, 0.5)


async def test_tx_accepts_format_change_with_every_frame() -> None:
    """Contract: the format may change with each frame."""
    async with open_loopback() as session:
        frames = await send_and_receive(session, frames_of_tone_in_changing_formats(440, 1.0))
    received = measure(samples_of(frames), 16000)
    assert_is_tone(received, 440)


@pytest.mark.slow_audio
@pytest.mark.parametrize("milliseconds", [7, 1, 33.3, 1200])
async def test_frames_of_any_length_arrive_without_gaps(milliseconds: float) -> None:
    """Contract: tx takes frames of any length."""
    frames = split_into_frames(tone(440, 1.2, 24000), 24000, milliseconds / 1000)
    async with open_loopback(send_buffer=1.0) as session:  # bridges a busy machine
        sound = samples_of(await send_and_receive(session, frames))
    received = measure(sound, 16000)
    assert received.frequency == pytest.approx(440, abs=1)
    assert received.level == pytest.approx(decibels(0.25), abs=0.1)  # A gap would lower the level.
    assert received.duration == pytest.approx(1.2, abs=0.04)


@pytest.mark.parametrize("rate", [16000, 48000])
async def test_audio_shorter_than_block_arrives_at_once(rate: int) -> None:
    """Contract: audio shorter than a block of 10 ms is padded, not held."""
    async with open_loopback() as session:
        first = measure(
            samples_of(await send_and_receive(session, frames_of_tone(2000, 0.006, rate))),
            16000,
        )
        second = await send_and_receive(session, frames_of_tone(1000, 0.5, rate))
    assert first.duration <= 0.02
    assert measure(samples_of(second), 16000).frequency == pytest.approx(1000, abs=1)


@pytest.mark.slow_audio
async def test_sdk_resamples_nothing() -> None:
    """Contract: only our resampler changes the rate: flat to 7 kHz at 16 kHz, and without aliases.

    The SDK's own resampler is 5 dB down at 7 kHz, and returns 9 kHz at -20 dB.
    """
    at = np.arange(48000) / 48000
    kept = {1000: 0.0, 3000: 0.0, 6000: 0.0, 7000: 0.0}
    for frequencies, bound in [(kept, 0.0), ((8100, 9000, 12000, 17000, 23000), -75.0)]:
        sound = sum(0.2 * np.sin(2 * np.pi * f * at) for f in frequencies)
        marker = np.concatenate([tone(500, 0.1, 48000), np.zeros(9600, np.int16)])
        frame = AudioFrame.from_samples(np.asarray(sound), 48000)
        async with open_loopback() as session:
            frames = await send_and_receive(
                session,
                [*split_into_frames(marker, 48000), *split_into_frames(frame.samples, 48000)],
                2.0,
            )
        received = samples_of(frames).astype(np.float64)
        begun = int(np.flatnonzero(np.abs(received) > LOUD)[0])
        steady = received[begun + 8000 : begun + 16000]  # Half a second, after the marker.
        spectrum = np.abs(np.fft.rfft(steady * np.hanning(8000))) * 4 / 8000 / 32768
        if bound:
            assert 20 * np.log10(spectrum.max() / 0.2) < bound
        else:
            for frequency in kept:
                level = 20 * np.log10(spectrum[frequency // 2] / 0.2)
                assert level == pytest.approx(0, abs=0.02 if frequency <= 6000 else 0.1)


async def test_rx_frames_have_requested_frame_size() -> None:
    """Contract: `frame_size` sets the samples of each frame, such as a voice detector's 512."""
    async with open_loopback(frame_size=512) as (rx, tx), anyio.create_task_group() as tasks:
        tasks.start_soon(send_frames, tx, frames_of_tone(440, 0.5, 16000))
        frames = await receive_until_silent(rx)
    assert {frame.samples_per_channel for frame in frames} == {512}
    assert measure(samples_of(frames), 16000).duration == pytest.approx(0.5, abs=0.04)


@pytest.mark.parametrize(("frame_size", "at_a_time"), [(80, 2), (160, 1), (320, 1)])
async def test_short_frames_arrive_every_10_ms(frame_size: int, at_a_time: int) -> None:
    """Contract: frames of 10 ms or less are not held until 20 ms are complete."""
    async with open_loopback(frame_size=frame_size) as (rx, _):
        times = [(await rx.receive()).timestamp for _ in range(12)]
    assert len(set(times)) in range(12 // at_a_time, 12 // at_a_time + 2)
