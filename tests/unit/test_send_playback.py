"""The state of one playback, and its outcome."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import numpy as np
import pytest

from beluga_livekit import AudioFrame, Playout
from beluga_livekit._send.muted_audio import MutedAudio
from beluga_livekit._send.playback import Playback, PlaybackState

pytestmark = pytest.mark.anyio

FRAME = AudioFrame.from_samples(np.zeros(48_000, np.int16), 48_000)


@pytest.fixture
async def playback() -> AsyncIterator[Playback]:
    playback = Playback(ZeroDivisionError)
    yield playback
    playback.close()


async def give(playback: Playback, frame: AudioFrame) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(playback.send, frame)
        await playback.frames.receive()


async def test_playback_is_played_in_four_states(playback: Playback) -> None:
    """Contract: a playback that was played to its end dropped nothing."""
    states = [playback.state]
    playback.begin(1000)
    states.append(playback.state)
    await give(playback, FRAME)
    playback.finish()
    playback.drain(49_000)
    states.append(playback.state)
    assert playback.released.is_set()
    playback.complete(playback.given)
    states.append(playback.state)
    assert states == list(PlaybackState)
    assert playback.result(MutedAudio()) == Playout(1.0, 0.0, 0.0, interrupted=False)


@pytest.mark.parametrize(("position", "played"), [(0, 0.0), (25_000, 0.5), (60_000, 1.0)])
async def test_interrupt_reports_what_was_played(
    playback: Playback, position: int, played: float
) -> None:
    """Contract: also before its first sample, and after its last one."""
    playback.begin(1000)
    await give(playback, FRAME)
    playback.drain(49_000)
    playback.interrupt(position)
    assert playback.result(MutedAudio()) == Playout(played, 0.0, 1.0 - played, interrupted=True)


async def test_interrupt_counts_what_the_source_gives_later_as_dropped(playback: Playback) -> None:
    """Contract: played and dropped are together what was given."""
    with playback.caller:
        playback.interrupt(0)
        await playback.send(FRAME)
    assert playback.caller.cancelled_caught
    assert playback.result(MutedAudio()) == Playout(0.0, 0.0, 1.0, interrupted=True)


async def test_first_outcome_of_a_playback_stays(playback: Playback) -> None:
    """Regression: a source that takes its time to end may meet a second interrupt."""
    playback.begin(0)
    await give(playback, FRAME)
    playback.interrupt(4800)
    playback.interrupt(9600)
    playback.close_input()
    playback.drain(48_000)
    assert playback.state is PlaybackState.DONE
    assert playback.result(MutedAudio()) == Playout(0.1, 0.0, 0.9, interrupted=True)


@pytest.mark.parametrize("exhausted", [True, False])
async def test_close_input_ends_a_playback_unless_its_source_is_exhausted(
    playback: Playback, exhausted: bool
) -> None:
    """Contract: what was accepted before the end of a session is played."""
    playback.begin(0)
    await give(playback, FRAME)
    if exhausted:
        playback.finish()
    playback.close_input()
    assert playback.caller.cancel_called is not exhausted
    playback.drain(48_000)
    expected = PlaybackState.DRAINING if exhausted else PlaybackState.DONE
    assert playback.state is expected
    with pytest.raises(ZeroDivisionError):
        playback.result(MutedAudio())


async def test_send_raises_the_error_of_the_session_when_the_input_is_closed(
    playback: Playback,
) -> None:
    """Contract: as a send to tx does."""

    async def send() -> None:
        with pytest.raises(ZeroDivisionError):
            await playback.send(FRAME)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(send)
        await anyio.wait_all_tasks_blocked()
        playback.close_input()


async def test_positions_of_a_playback_follow_the_audio(playback: Playback) -> None:
    """Contract: what is played after a cancelled playback plays earlier."""
    playback.shift(0, 100)
    playback.clip(0)
    assert (playback.start, playback.end) == (None, None)
    playback.begin(1000)
    playback.drain(2000)
    playback.shift(2001, -480)
    assert (playback.start, playback.end) == (1000, 2000)
    playback.shift(1000, -480)
    assert (playback.start, playback.end) == (520, 1520)
    playback.clip(1000)
    assert (playback.start, playback.end) == (520, 1000)
