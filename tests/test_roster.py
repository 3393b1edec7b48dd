"""Who is there and what is told of it: pure bookkeeping, with a clock that tests can wait for."""

from __future__ import annotations

import copy
import pickle
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beluga_livekit import (
    ConfigError,
    Disconnected,
    DisconnectReason,
    DtmfReceived,
    Event,
    EventsDropped,
    Participant,
    ParticipantChanged,
    ParticipantJoined,
    ParticipantLeft,
    Reconnected,
    Reconnecting,
    Rejoined,
    TrackMuted,
    TrackStarted,
    TrackStopped,
    TrackUnmuted,
)
from beluga_livekit._options import ListenOptions
from beluga_livekit._room import state
from beluga_livekit._room.events import MAX_EVENTS, EventQueue
from beluga_livekit._room.state import Roster, Track

pytestmark = pytest.mark.anyio

ANN = Participant("ann")


@pytest.fixture
async def roster(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Roster]:
    monkeypatch.setattr(state, "LEAVING", 0.05)
    monkeypatch.setattr(state, "RETURNING", 0.1)
    roster = Roster()
    yield roster
    roster.end(DisconnectReason.CLIENT_INITIATED)


class Watch:
    """The kinds of events that a roster has told so far."""

    def __init__(self, roster: Roster) -> None:
        self._events = roster.events()

    async def next(self, *kinds: type[Event]) -> None:
        with anyio.fail_after(5):
            got = [type(await self._events.receive()) for _ in kinds]
        assert got == list(kinds)

    def nothing(self) -> None:
        with pytest.raises(anyio.WouldBlock):
            self._events.receive_nowait()

    def close(self) -> None:
        self._events.close()


@pytest.fixture
async def watch(roster: Roster) -> AsyncIterator[Watch]:
    watch = Watch(roster)
    yield watch
    watch.close()


async def test_somebody_who_leaves_and_is_back_in_a_moment_has_not_left(
    roster: Roster, watch: Watch
) -> None:
    roster.enter(ANN)
    roster.publish(Track("t1", "ann", muted=True))
    await watch.next(ParticipantJoined, TrackStarted, TrackMuted)
    roster.leave("ann")
    roster.enter(Participant("ann", name="Ann"))
    await watch.next(TrackStopped, ParticipantChanged)
    await anyio.sleep(0.1)
    watch.nothing()
    roster.leave("ann")
    assert "ann" in roster.participants
    await watch.next(ParticipantLeft)
    assert not roster.participants


@pytest.mark.parametrize("room", [None, "room"])
async def test_whoever_is_lost_with_the_connection_has_time_to_return(
    roster: Roster, watch: Watch, room: str | None
) -> None:
    for name in ("ann", "ben"):
        roster.enter(Participant(name))
    await watch.next(ParticipantJoined, ParticipantJoined)
    roster.leave("ann")  # the SDK tells that first
    roster.interrupted()
    roster.interrupted()
    roster.leave("ben")
    await watch.next(Reconnecting)
    with roster.events() as late:
        assert isinstance(late.receive_nowait(), Reconnecting)
    await anyio.sleep(0.2)
    watch.nothing()
    roster.restored(room)
    roster.restored(room)
    await watch.next(Reconnected if room is None else Rejoined)
    roster.enter(ANN)
    await watch.next(ParticipantLeft)
    watch.nothing()
    assert list(roster.participants) == ["ann"]


async def test_what_is_told_twice_happens_once(roster: Roster, watch: Watch) -> None:
    for _ in range(2):
        roster.enter(ANN)
        roster.publish(Track("t1", "ann"))
    await watch.next(ParticipantJoined, TrackStarted)
    for _ in range(2):
        roster.mute("t1", True)
    await watch.next(TrackMuted)
    for _ in range(2):
        roster.unpublish("t1")
    await watch.next(TrackStopped)
    roster.mute("t1", False)
    roster.hear("t1", object())
    roster.publish(Track("t2", "nobody"))
    roster.leave("nobody")
    watch.nothing()
    roster.press("nobody", "1")
    await watch.next(DtmfReceived)


async def test_the_end_is_the_last_event_and_stops_all_timers(roster: Roster, watch: Watch) -> None:
    roster.enter(ANN)
    roster.leave("ann")
    roster.end(DisconnectReason.ROOM_DELETED)
    roster.end(DisconnectReason.UNKNOWN)
    await watch.next(ParticipantJoined, Disconnected)
    with pytest.raises(anyio.EndOfStream):
        await watch.next(ParticipantLeft)
    await roster.wait_until_changed()
    await anyio.sleep(0.1)
    assert "ann" in roster.participants  # nothing happens any more
    with roster.events() as late:
        assert [event async for event in late] == [Disconnected(DisconnectReason.ROOM_DELETED)]


async def test_a_reader_that_is_gone_is_told_nothing(roster: Roster) -> None:
    roster.events().close()
    roster.enter(ANN)
    assert not roster._queues


@given(st.lists(st.integers(1, 3 * MAX_EVENTS), min_size=1, max_size=4))
async def test_a_slow_reader_loses_the_oldest_and_is_told_how_many(bursts: list[int]) -> None:
    queue = EventQueue([])
    number = read = 0
    with queue.reader as reader:
        for burst in bursts:
            for _ in range(burst):
                queue.put(DtmfReceived(None, str(number)))
                number += 1
            waiting = reader.statistics().current_buffer_used
            assert waiting <= MAX_EVENTS
            events = [reader.receive_nowait() for _ in range(waiting)]
            dropped = [event for event in events if isinstance(event, EventsDropped)]
            assert len(dropped) <= 1
            assert not dropped or events[0] is dropped[0]
            read += sum(event.count for event in dropped)
            for event in events[len(dropped) :]:
                assert event == DtmfReceived(None, str(read))
                read += 1
            assert read == number
        queue.close()


async def test_a_track_of_somebody_who_was_leaving_shows_that_they_are_here(
    roster: Roster, watch: Watch
) -> None:
    roster.enter(ANN)
    roster.leave("ann")
    assert list(roster.present()) == []
    roster.publish(Track("t1", "ann"))
    assert list(roster.present()) == [ANN]
    await anyio.sleep(0.1)
    await watch.next(ParticipantJoined, TrackStarted)
    watch.nothing()
    assert roster.tracks.keys() == {"t1"}


async def test_our_own_mute_is_there_for_whoever_looks_later(roster: Roster) -> None:
    roster.enter(Participant("bot", is_self=True))
    for _ in range(2):
        roster.mute_self("t0", True)
    with roster.events() as events:
        assert isinstance(events.receive_nowait(), TrackMuted)
        roster.mute_self("t0", False)
        assert isinstance(events.receive_nowait(), TrackUnmuted)
    with roster.events() as events, pytest.raises(anyio.WouldBlock):
        events.receive_nowait()


def test_a_participant_travels_and_cannot_be_changed() -> None:
    ann = Participant("ann", "Ann", attributes={"a": "b"})
    for copied in (pickle.loads(pickle.dumps(ann)), copy.deepcopy(ann)):
        assert copied == ann
        assert hash(copied) == hash(ann)
    with pytest.raises(TypeError):
        ann.attributes["a"] = "c"  # type: ignore[index]


def test_a_predicate_that_fails_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    options = ListenOptions(participant=lambda each: each.attributes["a"] == "b")
    assert not options.wants(ANN)
    assert not options.but(mix=False).wants(ANN)
    assert options.wants(Participant("ben", attributes={"a": "b"}))
    assert caplog.text.count("the predicate") == 1


async def nobody(participant: Participant) -> bool:
    return False


@pytest.mark.parametrize("wrong", [nobody, 5, ["ann", 5], b"ann"])
def test_what_is_no_filter_is_told_at_once(wrong: Any) -> None:
    with pytest.raises(ConfigError, match="participant must be an identity"):
        ListenOptions(participant=wrong)
