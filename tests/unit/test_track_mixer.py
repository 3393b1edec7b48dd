"""TrackMixer: the sum of several tracks, in time and complete."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.audio import Samples, tone

from beluga_livekit.audio.track_mixer import TRACK_TIMEOUT, Mixed, TrackMixer

WIRE_RATE = 48000
SIZE = 960  # 20 ms


class ClockedMixer:
    """A mixer with a clock that only the test advances."""

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


def test_single_track_passes_through_unchanged() -> None:
    """Contract: a single track is neither copied nor delayed."""
    mixer = ClockedMixer()
    for channels in (1, 2):
        sound = tone(440, 0.02, WIRE_RATE, channels=channels)
        ((samples, tracks),) = mixer.push("a", sound, after=0.02)
        assert samples is sound or np.array_equal(samples, sound)
        assert tracks == ("a",)


def test_two_tracks_are_summed_and_saturate() -> None:
    """Contract: tracks are summed sample by sample, and the sum clips."""
    mixer = ClockedMixer()
    mixer.push("a", constant(20000))
    mixer.push("b", constant(0), after=0.01)
    mixer.mixed.clear()
    for _ in range(10):
        mixer.push("a", constant(20000), after=0.01)
        mixer.push("b", constant(20000), after=0.01)
    assert set(mixer.sound[SIZE:]) == {32767}
    assert {mixed.tracks for mixed in mixer.mixed[1:]} == {("a", "b")}


def test_sum_names_track_that_is_loud() -> None:
    """Contract: a sum with one loud track carries that track's name."""
    mixer = ClockedMixer()
    tracks = []
    for number in range(30):
        loud = 100 * (number < 10), 100 * (number >= 20)
        for name, value in zip("ab", loud, strict=True):
            tracks += [mixed.tracks for mixed in mixer.push(name, constant(value), after=0.01)]
    assert tracks[:9] == [("a",)] * 9
    assert tracks[11:19] == [("a", "b")] * 8
    assert tracks[-9:] == [("b",)] * 9


@pytest.mark.parametrize("late", [0.0, 0.003, 0.008, 0.012, 0.019])
def test_joining_track_delays_no_other_track(late: float) -> None:
    """Contract: a sum is complete as soon as one of two tracks has delivered, at any phase."""
    mixer = ClockedMixer()
    mixer.push("a", constant(1))
    for number in range(20):
        at_b = mixer.push("b", constant(2), after=late)
        at_a = mixer.push("a", constant(1), after=0.02 - late)
        # Where both deliver together, the second one completes the sum.
        assert (len(at_b), len(at_a)) == ((0 if number == 0 else 1, 0) if late < 0.005 else (0, 1))


@pytest.mark.parametrize("first", [0, 100])
def test_track_in_step_is_aligned_once_it_was_silent(first: int) -> None:
    """Contract: alignment uses silence, and loses no sample."""
    mixer = ClockedMixer()
    values = [first, 100, 200, 300, 0, 500, 600, 700, 800]
    for number, value in enumerate(values, 1):
        mixer.push("a", constant(number), after=0.019)
        mixer.push("b", constant(value), after=0.001)
    late = 1 if first else 0  # Frames, until the track is silent.
    received = [int(mixed.samples[0]) for mixed in mixer.mixed]
    assert received[0] == 1
    assert received[1:4] == [number + values[number - 1 - late] for number in (2, 3, 4)]
    assert received[6:] == [number + values[number - 1] for number in (7, 8, 9)]
    # No sample is lost.
    assert sum(received) == sum(values) + sum(range(1, 10))


def test_noise_beside_voice_is_not_named() -> None:
    """Contract: quiet tracks are in the sum, and named only where no track is loud."""
    mixer = ClockedMixer()
    for _ in range(3):
        mixer.push("a", constant(3200), after=0.01)
        mixer.push("noise", constant(99), after=0.01)
        mixer.push("silence", constant(0))
    assert (mixer.mixed[-1].samples[0], mixer.mixed[-1].tracks) == (3299, ("a",))
    mixer.push("a", constant(99))
    mixer.push("noise", constant(99), after=0.02)
    mixer.push("silence", constant(0))
    assert (mixer.mixed[-1].samples[0], mixer.mixed[-1].tracks) == (198, ("a", "noise"))


def test_stalled_track_delays_others_only_once() -> None:
    """Contract: a stalled track delays others for TRACK_TIMEOUT, once."""
    mixer = ClockedMixer()
    for _ in range(5):
        mixer.push("a", constant(1), after=0.01)
        mixer.push("b", constant(2), after=0.01)
    mixer.mixed.clear()
    waits = []
    for _ in range(50):
        waits.append(len(mixer.push("a", constant(1), after=0.02)))
    assert waits[-40:] == [1] * 40
    assert waits.index(1, 2) * 0.02 <= TRACK_TIMEOUT + 0.04
    assert len(mixer.sound) >= 49 * SIZE
    mixer.push("b", constant(2), after=0.01)
    mixer.push("a", constant(1), after=0.01)
    assert mixer.mixed[-1].samples[0] == 3


@pytest.mark.parametrize("first", ["a", "b"])  # The track whose backlog comes first.
@pytest.mark.parametrize("phase", [0.0, 0.004, 0.01])
def test_backlogs_stay_aligned_after_stall(phase: float, first: str) -> None:
    """Contract: after a stall of the process all tracks keep their alignment and their audio."""
    mixer = ClockedMixer()
    number = 0
    for _ in range(10):
        number += 1
        mixer.push("a", constant(number), after=0.02 - phase)
        mixer.push("b", constant(100 * number), after=phase)
    before = mixer.mixed[-1].samples[0]
    mixer.now += 3.0
    for name, factor in sorted({"a": 1, "b": 100}.items(), reverse=first == "b"):
        for each in range(number + 1, number + 151):
            mixer.push(name, constant(factor * each))
    late = before // 100 - before % 100
    mixed = {int(m.samples[0]) for m in mixer.mixed[12:140]}
    assert {value // 100 - value % 100 for value in mixed if value < 10000} == {late}
    # Output is as long as input, but for two frames that wait.
    assert len(mixer.sound) >= (number + 148) * SIZE


@pytest.mark.slow_audio
def test_mix_does_not_drift_in_ten_minutes() -> None:
    """Contract: two tracks of one clock, each up to 15 ms late, with stalls, stay in time."""
    mixer = ClockedMixer()
    rng = np.random.default_rng(7)
    late = rng.uniform(0.0, 0.015, (30_000, 2))
    stalls = rng.random(30_000) < 0.002
    frame, length, stall = constant(1), 0, 0.0
    for number in range(30_000):
        start = 100.0 + 0.02 * number
        stall = start + rng.uniform(0.1, 2.0) if stalls[number] else stall
        for track, after in sorted(zip("ab", late[number], strict=True), key=lambda each: each[1]):
            mixer.now = max(mixer.now, stall, start + after)
            length += sum(len(mixed.samples) for mixed in mixer.push(track, frame))
        mixer.mixed.clear()
    assert length == pytest.approx(30_000 * SIZE, abs=4 * SIZE)
    assert all(len(line.held) <= 2 * SIZE for line in mixer.mixer._inputs.values())


def test_backlog_of_one_track_is_trimmed_without_click() -> None:
    """Contract: the excess of a track that began with a burst is trimmed within seconds."""
    mixer = ClockedMixer()
    sound = tone(440, 4.0, WIRE_RATE, level=0.25)
    frames = [sound[at : at + SIZE] for at in range(0, len(sound), SIZE)]
    mixer.push("a", constant(0))
    for _ in range(6):
        mixer.push("b", frames.pop(0), after=0.001)
    held = []
    while frames:
        mixer.push("a", constant(0), after=0.01)
        mixer.push("b", frames.pop(0), after=0.01)
        held.append(len(mixer.mixer._inputs["b"].held))
    assert held[0] >= 4 * SIZE
    assert held[-1] <= SIZE
    steps = np.abs(np.diff(mixer.sound.astype(np.int32)[SIZE * 4 :]))
    assert steps.max() <= 1.1 * np.abs(np.diff(sound.astype(np.int32))).max()


def test_removed_track_is_not_awaited_and_loses_nothing() -> None:
    """Contract: removal releases the sum and keeps all delivered audio."""
    for last in ("a", "b"):  # The track that delivers the last frame before the end of "b".
        mixer = ClockedMixer()
        for _ in range(5):
            mixer.push("a", constant(1), after=0.01)
            mixer.push("b", constant(2), after=0.01)
        mixer.push(last, constant(1 if last == "a" else 2), after=0.01)
        mixer.mixed += mixer.mixer.remove("b")
        for _ in range(2):
            mixer.push("a", constant(1), after=0.02)
        assert len(mixer.sound) == (8 if last == "a" else 7) * SIZE
        assert (mixer.sound & 2).sum() == (5 if last == "a" else 6) * 2 * SIZE
        assert mixer.mixer.remove("b") == []
        assert mixer.mixer._inputs.keys() == {"a"}


def test_removing_all_tracks_loses_nothing() -> None:
    """Contract: removal of the last track releases its rest."""
    mixer = ClockedMixer()
    mixer.push("a", constant(1))
    mixer.push("b", constant(2), after=0.01)
    mixer.push("b", constant(2), after=0.001)
    for track in ("b", "a"):
        mixer.mixed += mixer.mixer.remove(track)
    assert (mixer.sound & 2).sum() == 2 * 2 * SIZE


def test_mono_and_stereo_mix_to_stereo() -> None:
    """Contract: a sum has the most channels of its tracks."""
    mixer = ClockedMixer()
    both = np.stack([constant(10), constant(20)], axis=1)
    for _ in range(3):
        mixer.push("mono", constant(1), after=0.01)
        mixer.push("stereo", both, after=0.01)
    last = mixer.mixed[-1].samples
    assert last.shape == (SIZE, 2)
    assert last[0].tolist() == [11, 21]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 4)), max_size=60))
def test_mix_never_doubles_audio(pushes: list[tuple[str, int]]) -> None:
    """Contract: whatever the order of pushes, no sample is summed twice."""
    mixer = ClockedMixer()
    given_in = 0
    for track, steps in pushes:
        mixer.push(track, constant(1, 480 * steps), after=0.005)
        given_in += 480 * steps
    total = int(sum(int(mixed.samples.astype(np.int64).sum()) for mixed in mixer.mixed))
    waiting = sum(len(line.held) for line in mixer.mixer._inputs.values())
    assert total + waiting <= given_in


def test_track_mixer_trims_with_a_crossfade() -> None:
    """Regression: the trimmed backlog is 44.5 periods; without a crossfade the tone would jump."""
    mixer = ClockedMixer()
    sound = tone(445, 2.0, 48000, level=0.25)
    frames = [sound[at : at + SIZE] for at in range(0, len(sound), SIZE)]
    mixer.push("a", constant(0))
    for _ in range(6):
        mixer.push("b", frames.pop(0), after=0.001)
    while frames:
        mixer.push("a", constant(0), after=0.01)
        mixer.push("b", frames.pop(0), after=0.01)
    assert len(sound) - len(mixer.sound) >= 4 * SIZE  # trimmed
    steps = np.abs(np.diff(mixer.sound.astype(np.int32)[SIZE * 4 :]))
    assert steps.max() <= 1.1 * np.abs(np.diff(sound.astype(np.int32))).max()
