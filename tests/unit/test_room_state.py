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

from beluga_livekit import ConfigError, DisconnectReason, Participant
from beluga_livekit._options import ReceiveOptions
from beluga_livekit._room import state
from beluga_livekit._room.events import MAX_EVENTS, EventStream
from beluga_livekit._room.state import RoomState, Track
from beluga_livekit.events import (
    Disconnected,
    DtmfReceived,
    EventsDropped,
    ParticipantJoined,
    ParticipantLeft,
    ParticipantUpdated,
    Reconnected,
    Reconnecting,
    Rejoined,
    RoomEvent,
    TrackMuted,
    TrackPublished,
    TrackUnmuted,
    TrackUnpublished,
)

pytestmark = pytest.mark.anyio

ANN = Participant("ann")


@pytest.fixture
async def room_state(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RoomState]:
    monkeypatch.setattr(state, "LEAVING", 0.05)
    monkeypatch.setattr(state, "RETURNING", 0.1)
    room_state = RoomState()
    yield room_state
    room_state.end(DisconnectReason.CLIENT_INITIATED)


class Watch:
    """The kinds of events that a room_state has told so far."""

    def __init__(self, room_state: RoomState) -> None:
        self._events = room_state.events()

    async def next(self, *kinds: type[RoomEvent]) -> None:
        with anyio.fail_after(5):
            got = [type(await self._events.receive()) for _ in kinds]
        assert got == list(kinds)

    def nothing(self) -> None:
        with pytest.raises(anyio.WouldBlock):
            self._events.receive_nowait()

    def close(self) -> None:
        self._events.close()


@pytest.fixture
async def watch(room_state: RoomState) -> AsyncIterator[Watch]:
    watch = Watch(room_state)
    yield watch
    watch.close()


async def test_somebody_who_leaves_and_is_back_in_a_moment_has_not_left(
    room_state: RoomState, watch: Watch
) -> None:
    room_state.enter(ANN)
    room_state.publish(Track("t1", "ann", muted=True))
    await watch.next(ParticipantJoined, TrackPublished, TrackMuted)
    room_state.leave("ann")
    room_state.enter(Participant("ann", name="Ann"))
    await watch.next(TrackUnpublished, ParticipantUpdated)
    await anyio.sleep(0.1)
    watch.nothing()
    room_state.leave("ann")
    assert "ann" in room_state.participants
    await watch.next(ParticipantLeft)
    assert not room_state.participants


@pytest.mark.parametrize("room", [None, "room"])
async def test_whoever_is_lost_with_the_connection_has_time_to_return(
    room_state: RoomState, watch: Watch, room: str | None
) -> None:
    for name in ("ann", "ben"):
        room_state.enter(Participant(name))
    await watch.next(ParticipantJoined, ParticipantJoined)
    room_state.leave("ann")  # the SDK tells that first
    room_state.interrupted()
    room_state.interrupted()
    room_state.leave("ben")
    await watch.next(Reconnecting)
    with room_state.events() as late:
        assert isinstance(late.receive_nowait(), Reconnecting)
    await anyio.sleep(0.2)
    watch.nothing()
    room_state.restored(room)
    room_state.restored(room)
    await watch.next(Reconnected if room is None else Rejoined)
    room_state.enter(ANN)
    await watch.next(ParticipantLeft)
    watch.nothing()
    assert list(room_state.participants) == ["ann"]


async def test_what_is_told_twice_happens_once(room_state: RoomState, watch: Watch) -> None:
    for _ in range(2):
        room_state.enter(ANN)
        room_state.publish(Track("t1", "ann"))
    await watch.next(ParticipantJoined, TrackPublished)
    for _ in range(2):
        room_state.mute("t1", True)
    await watch.next(TrackMuted)
    for _ in range(2):
        room_state.unpublish("t1")
    await watch.next(TrackUnpublished)
    room_state.mute("t1", False)
    room_state.hear("t1", object())
    room_state.publish(Track("t2", "nobody"))
    room_state.leave("nobody")
    watch.nothing()
    room_state.press("nobody", "1")
    await watch.next(DtmfReceived)


async def test_the_end_is_the_last_event_and_stops_all_timers(
    room_state: RoomState, watch: Watch
) -> None:
    room_state.enter(ANN)
    room_state.leave("ann")
    room_state.end(DisconnectReason.ROOM_DELETED)
    room_state.end(DisconnectReason.UNKNOWN)
    await watch.next(ParticipantJoined, Disconnected)
    with pytest.raises(anyio.EndOfStream):
        await watch.next(ParticipantLeft)
    await room_state.wait_until_changed()
    await anyio.sleep(0.1)
    assert "ann" in room_state.participants  # nothing happens any more
    with room_state.events() as late:
        assert [event async for event in late] == [Disconnected(DisconnectReason.ROOM_DELETED)]


async def test_a_reader_that_is_gone_is_told_nothing(room_state: RoomState) -> None:
    room_state.events().close()
    room_state.enter(ANN)
    assert not room_state._queues


@given(st.lists(st.integers(1, 3 * MAX_EVENTS), min_size=1, max_size=4))
async def test_a_slow_reader_loses_the_oldest_and_is_told_how_many(bursts: list[int]) -> None:
    queue = EventStream([])
    number = read = 0
    with queue.rx as reader:
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
    room_state: RoomState, watch: Watch
) -> None:
    room_state.enter(ANN)
    room_state.leave("ann")
    assert list(room_state.present()) == []
    room_state.publish(Track("t1", "ann"))
    assert list(room_state.present()) == [ANN]
    await anyio.sleep(0.1)
    await watch.next(ParticipantJoined, TrackPublished)
    watch.nothing()
    assert room_state.tracks.keys() == {"t1"}


async def test_our_own_mute_is_there_for_whoever_looks_later(room_state: RoomState) -> None:
    room_state.enter(Participant("bot", is_self=True))
    for _ in range(2):
        room_state.mute_self("t0", True)
    with room_state.events() as events:
        assert isinstance(events.receive_nowait(), TrackMuted)
        room_state.mute_self("t0", False)
        assert isinstance(events.receive_nowait(), TrackUnmuted)
    with room_state.events() as events, pytest.raises(anyio.WouldBlock):
        events.receive_nowait()


def test_a_participant_travels_and_cannot_be_changed() -> None:
    ann = Participant("ann", "Ann", attributes={"a": "b"})
    for copied in (pickle.loads(pickle.dumps(ann)), copy.deepcopy(ann)):
        assert copied == ann
        assert hash(copied) == hash(ann)
    with pytest.raises(TypeError):
        ann.attributes["a"] = "c"  # type: ignore[index]


def test_a_predicate_that_fails_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    options = ReceiveOptions(participants=lambda each: each.attributes["a"] == "b")
    assert not options.selects(ANN)
    assert not options.evolve(mix=False).selects(ANN)
    assert options.selects(Participant("ben", attributes={"a": "b"}))
    assert caplog.text.count("the predicate") == 1


async def nobody(participant: Participant) -> bool:
    return False


@pytest.mark.parametrize("wrong", [nobody, 5, ["ann", 5], b"ann"])
def test_what_is_no_filter_is_told_at_once(wrong: Any) -> None:
    with pytest.raises(ConfigError, match="participants must be an identity"):
        ReceiveOptions(participants=wrong)
