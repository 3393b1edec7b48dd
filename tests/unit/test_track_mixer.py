"""The sum of several tracks: nothing lost, nothing doubled, nobody late for long."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.audio import tone

from beluga_livekit.audio.track_mixer import TRACK_TIMEOUT, Mixed, TrackMixer

RATE = 48000
SIZE = 960  # 20 ms

Samples = NDArray[np.int16]


class Room:
    """A mixer, and a clock that goes when it is told to."""

    def __init__(self) -> None:
        self.mixer = TrackMixer()
        self.now = 100.0
        self.mixed: list[Mixed] = []

    def push(self, track: str, samples: Samples, *, after: float = 0.0) -> list[Mixed]:
        self.now += after
        out = self.mixer.push(track, samples, self.now)
        self.mixed += out
        return out

    @property
    def sound(self) -> Samples:
        return np.concatenate([mixed.samples for mixed in self.mixed])


def constant(value: int, size: int = SIZE) -> Samples:
    return np.full(size, value, np.int16)


def test_one_track_passes_through_at_once_as_it_is() -> None:
    room = Room()
    for channels in (1, 2):
        sound = tone(440, 0.02, RATE, channels=channels)
        ((samples, tracks),) = room.push("a", sound, after=0.02)
        assert samples is sound or np.array_equal(samples, sound)
        assert tracks == ("a",)


def test_two_tracks_are_summed_sample_by_sample_and_saturate() -> None:
    room = Room()
    room.push("a", constant(20000))
    room.push("b", constant(0), after=0.01)
    room.mixed.clear()
    for _ in range(10):
        room.push("a", constant(20000), after=0.01)
        room.push("b", constant(20000), after=0.01)
    assert set(room.sound[SIZE:]) == {32767}
    assert {mixed.tracks for mixed in room.mixed[1:]} == {("a", "b")}


def test_of_two_tracks_the_one_that_speaks_is_named() -> None:
    room = Room()
    tracks = []
    for number in range(30):
        loud = 100 * (number < 10), 100 * (number >= 20)
        for name, value in zip("ab", loud, strict=True):
            tracks += [mixed.tracks for mixed in room.push(name, constant(value), after=0.01)]
    assert tracks[:9] == [("a",)] * 9
    assert tracks[11:19] == [("a", "b")] * 8
    assert tracks[-9:] == [("b",)] * 9


@pytest.mark.parametrize("late", [0.0, 0.003, 0.008, 0.012, 0.019])
def test_a_track_that_joins_delays_nobody(late: float) -> None:
    """Whenever in a wire frame it delivers: a sum is there when one of the two has come."""
    room = Room()
    room.push("a", constant(1))
    for number in range(20):
        at_b = room.push("b", constant(2), after=late)
        at_a = room.push("a", constant(1), after=0.02 - late)
        # Where both deliver together, the second one completes the sum.
        assert (len(at_b), len(at_a)) == ((0 if number == 0 else 1, 0) if late < 0.005 else (0, 1))


@pytest.mark.parametrize("first", [0, 100])
def test_a_second_track_in_step_is_in_time_once_it_was_silent(first: int) -> None:
    room = Room()
    said = [first, 100, 200, 300, 0, 500, 600, 700, 800]
    for number, value in enumerate(said, 1):
        room.push("a", constant(number), after=0.019)
        room.push("b", constant(value), after=0.001)
    late = 1 if first else 0  # frames, until it is silent
    heard = [int(mixed.samples[0]) for mixed in room.mixed]
    assert heard[0] == 1
    assert heard[1:4] == [number + said[number - 1 - late] for number in (2, 3, 4)]
    assert heard[6:] == [number + said[number - 1] for number in (7, 8, 9)]
    # Nothing of what was said is lost.
    assert sum(heard) == sum(said) + sum(range(1, 10))


def test_noise_beside_a_voice_names_nobody_else() -> None:
    room = Room()
    for _ in range(3):
        room.push("a", constant(3200), after=0.01)
        room.push("noise", constant(99), after=0.01)
        room.push("silence", constant(0))
    assert (room.mixed[-1].samples[0], room.mixed[-1].tracks) == (3299, ("a",))
    room.push("a", constant(99))
    room.push("noise", constant(99), after=0.02)
    room.push("silence", constant(0))
    assert (room.mixed[-1].samples[0], room.mixed[-1].tracks) == (198, ("a", "noise"))


def test_a_track_that_stops_delivering_holds_the_others_up_but_once() -> None:
    room = Room()
    for _ in range(5):
        room.push("a", constant(1), after=0.01)
        room.push("b", constant(2), after=0.01)
    room.mixed.clear()
    waits = []
    for _ in range(50):
        waits.append(len(room.push("a", constant(1), after=0.02)))
    assert waits[-40:] == [1] * 40
    assert waits.index(1, 2) * 0.02 <= TRACK_TIMEOUT + 0.04
    assert len(room.sound) >= 49 * SIZE
    room.push("b", constant(2), after=0.01)
    room.push("a", constant(1), after=0.01)
    assert room.mixed[-1].samples[0] == 3


@pytest.mark.parametrize("first", ["a", "b"])  # whose backlog comes first
@pytest.mark.parametrize("phase", [0.0, 0.004, 0.01])
def test_after_a_stall_the_backlogs_are_still_aligned(phase: float, first: str) -> None:
    room = Room()
    number = 0
    for _ in range(10):
        number += 1
        room.push("a", constant(number), after=0.02 - phase)
        room.push("b", constant(100 * number), after=phase)
    before = room.mixed[-1].samples[0]
    room.now += 3.0
    for name, factor in sorted({"a": 1, "b": 100}.items(), reverse=first == "b"):
        for each in range(number + 1, number + 151):
            room.push(name, constant(factor * each))
    late = before // 100 - before % 100
    mixed = {int(m.samples[0]) for m in room.mixed[12:140]}
    assert {value // 100 - value % 100 for value in mixed if value < 10000} == {late}
    # Nothing was lost: what goes out is as long as what came in, but for what waits.
    assert len(room.sound) >= (number + 148) * SIZE


@pytest.mark.once
def test_an_hour_does_not_drift() -> None:
    """Two tracks of one clock, each delivered up to 15 ms late, and a stall now and then."""
    room = Room()
    rng = np.random.default_rng(7)
    late = rng.uniform(0.0, 0.015, (180_000, 2))
    stalls = rng.random(180_000) < 0.0003
    frame, length, stall = constant(1), 0, 0.0
    for number in range(180_000):
        start = 100.0 + 0.02 * number
        stall = start + rng.uniform(0.1, 2.0) if stalls[number] else stall
        for track, after in sorted(zip("ab", late[number], strict=True), key=lambda each: each[1]):
            room.now = max(room.now, stall, start + after)
            length += sum(len(mixed.samples) for mixed in room.push(track, frame))
        room.mixed.clear()
    assert length == pytest.approx(180_000 * SIZE, abs=4 * SIZE)
    assert all(len(line.held) <= 2 * SIZE for line in room.mixer._inputs.values())


def test_what_stands_is_cut_within_seconds_without_a_step() -> None:
    """A track that began with a burst."""
    room = Room()
    sound = tone(440, 4.0, RATE, level=0.25)
    frames = [sound[at : at + SIZE] for at in range(0, len(sound), SIZE)]
    room.push("a", constant(0))
    for _ in range(6):
        room.push("b", frames.pop(0), after=0.001)
    held = []
    while frames:
        room.push("a", constant(0), after=0.01)
        room.push("b", frames.pop(0), after=0.01)
        held.append(len(room.mixer._inputs["b"].held))
    assert held[0] >= 4 * SIZE
    assert held[-1] <= SIZE
    steps = np.abs(np.diff(room.sound.astype(np.int32)[SIZE * 4 :]))
    assert steps.max() <= 1.1 * np.abs(np.diff(sound.astype(np.int32))).max()


def test_a_track_that_ends_is_waited_for_no_longer_and_nothing_of_it_is_lost() -> None:
    for last in ("a", "b"):  # who delivers the last frame before the other one ends
        room = Room()
        for _ in range(5):
            room.push("a", constant(1), after=0.01)
            room.push("b", constant(2), after=0.01)
        room.push(last, constant(1 if last == "a" else 2), after=0.01)
        room.mixed += room.mixer.remove("b")
        for _ in range(2):
            room.push("a", constant(1), after=0.02)
        assert len(room.sound) == (8 if last == "a" else 7) * SIZE
        assert (room.sound & 2).sum() == (5 if last == "a" else 6) * 2 * SIZE
        assert room.mixer.remove("b") == []
        assert room.mixer._inputs.keys() == {"a"}


def test_of_tracks_that_all_end_nothing_is_lost() -> None:
    room = Room()
    room.push("a", constant(1))
    room.push("b", constant(2), after=0.01)
    room.push("b", constant(2), after=0.001)
    for track in ("b", "a"):
        room.mixed += room.mixer.remove(track)
    assert (room.sound & 2).sum() == 2 * 2 * SIZE


def test_mono_and_stereo_together_are_stereo() -> None:
    room = Room()
    both = np.stack([constant(10), constant(20)], axis=1)
    for _ in range(3):
        room.push("mono", constant(1), after=0.01)
        room.push("stereo", both, after=0.01)
    last = room.mixed[-1].samples
    assert last.shape == (SIZE, 2)
    assert last[0].tolist() == [11, 21]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 4)), max_size=60))
def test_whatever_comes_when_no_sound_is_doubled(pushes: list[tuple[str, int]]) -> None:
    room = Room()
    given_in = 0
    for track, steps in pushes:
        room.push(track, constant(1, 480 * steps), after=0.005)
        given_in += 480 * steps
    total = int(sum(int(mixed.samples.astype(np.int64).sum()) for mixed in room.mixed))
    waiting = sum(len(line.held) for line in room.mixer._inputs.values())
    assert total + waiting <= given_in


def test_track_mixer_trims_with_a_crossfade() -> None:
    """The trimmed backlog is 44.5 periods: without a crossfade the tone would jump by 2 levels."""
    room = Room()
    sound = tone(445, 2.0, RATE, level=0.25)
    frames = [sound[at : at + SIZE] for at in range(0, len(sound), SIZE)]
    room.push("a", constant(0))
    for _ in range(6):
        room.push("b", frames.pop(0), after=0.001)
    while frames:
        room.push("a", constant(0), after=0.01)
        room.push("b", frames.pop(0), after=0.01)
    assert len(sound) - len(room.sound) >= 4 * SIZE  # trimmed
    steps = np.abs(np.diff(room.sound.astype(np.int32)[SIZE * 4 :]))
    assert steps.max() <= 1.1 * np.abs(np.diff(sound.astype(np.int32))).max()
