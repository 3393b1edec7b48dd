"""LatencyTrimmer: the producers whose backlog is trimmed, and those that lose nothing."""

from __future__ import annotations

import attrs
import numpy as np
import pytest
from support.clock import Clock, replace_time

from beluga_livekit import AudioFrame
from beluga_livekit._send import latency_trimmer as trimmer_module
from beluga_livekit._send.latency_trimmer import LatencyTrimmer
from beluga_livekit.audio.format import BLOCK

FRAME = AudioFrame.from_samples(np.full(2 * BLOCK, 1000, np.int16), 48_000)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return replace_time(monkeypatch, trimmer_module)


def observe(clock: Clock, trimmer: LatencyTrimmer, queued: list[float], waited: bool = True) -> int:
    """Return the number of blocks to be trimmed after frames of 20 ms."""
    for seconds in queued:
        trimmer.observe(FRAME, seconds, waited=waited)
        clock.now += 0.02
    return trimmer.blocks_left


def test_trimmer_trims_what_never_drained(clock: Clock) -> None:
    """Contract: all of the least backlog of a second, but for 5 ms, in whole blocks."""
    trimmer = LatencyTrimmer()
    assert observe(clock, trimmer, [0.096] + [0.2] * 48) == 0
    assert observe(clock, trimmer, [0.2] * 3) == 9
    assert len(trimmer.trim(FRAME.samples[:BLOCK])) == BLOCK
    for blocks in range(1, 12):
        samples = trimmer.trim(FRAME.samples)
        assert len(samples) == (BLOCK if blocks <= 9 else 2 * BLOCK)
        assert (samples == 1000).all()
    assert trimmer.samples_trimmed == 9 * BLOCK


def test_trimmer_trims_nothing_of_a_producer_that_runs_ahead(clock: Clock) -> None:
    """Contract: what is sent faster than real time arrives whole."""
    trimmer = LatencyTrimmer()
    assert observe(clock, trimmer, [0.2] * 200, waited=False) == 0
    assert observe(clock, trimmer, [0.2] * 40) == 0
    assert observe(clock, trimmer, [0.2], waited=False) == 0  # the window begins anew
    assert observe(clock, trimmer, [0.2] * 40) == 0
    assert not trimmer.is_relay


@pytest.mark.parametrize(("age", "is_relay"), [(0.9, True), (1.1, False), (-0.1, False)])
def test_trimmer_takes_frames_just_received_for_a_relay(
    clock: Clock, age: float, is_relay: bool
) -> None:
    """Contract: a relay fills the queue, and is never waited for; frames kept for 1 s are none."""
    trimmer = LatencyTrimmer()
    for _ in range(52):
        frame = attrs.evolve(FRAME, timestamp=clock.now - age)
        trimmer.observe(frame, 0.2, waited=False)
        clock.now += 0.02
    assert trimmer.is_relay is is_relay
    assert trimmer.blocks_left == (19 if is_relay else 0)
    trimmer.cancel()
    assert len(trimmer.trim(FRAME.samples)) == 2 * BLOCK


def test_trimmer_is_reset_by_a_playback(clock: Clock) -> None:
    """Contract: a playback is never trimmed, nor does it count for a producer."""
    trimmer = LatencyTrimmer()
    trimmer.observe(attrs.evolve(FRAME, timestamp=clock.now), 0.2, waited=False)
    clock.now += 2.0
    trimmer.reset()
    assert not trimmer.is_relay
    assert observe(clock, trimmer, [0.2]) == 0
