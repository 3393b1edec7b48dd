"""RoomState: participants, tracks and events through reconnects."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beluga_livekit import DisconnectReason, Participant
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
    TrackUndecryptable,
    TrackUnmuted,
    TrackUnpublished,
)

pytestmark = pytest.mark.anyio

ANN = Participant("ann")


@pytest.fixture
async def room_state(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RoomState]:
    monkeypatch.setattr(state, "DEPARTURE_GRACE", 0.05)
    monkeypatch.setattr(state, "RETURN_GRACE", 0.1)
    room_state = RoomState()
    yield room_state
    room_state.disconnect(DisconnectReason.CLIENT_INITIATED)


class ExpectedEvents:
    """Checks the types of the events of a RoomState, in order."""

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
async def expected(room_state: RoomState) -> AsyncIterator[ExpectedEvents]:
    expected = ExpectedEvents(room_state)
    yield expected
    expected.close()


async def test_participant_returning_within_grace_has_not_left(
    room_state: RoomState, expected: ExpectedEvents
) -> None:
    """Contract: ParticipantLeft waits for a return within the grace period."""
    room_state.update_participant(ANN)
    room_state.add_track(Track("t1", "ann", muted=True))
    await expected.next(ParticipantJoined, TrackPublished, TrackMuted)
    room_state.remove_participant("ann")
    room_state.update_participant(Participant("ann", name="Ann"))
    await expected.next(TrackUnpublished, ParticipantUpdated)
    await anyio.sleep(0.1)  # Twice the grace period passes.
    expected.nothing()
    room_state.remove_participant("ann")
    assert "ann" in room_state.participants
    await expected.next(ParticipantLeft)
    assert not room_state.participants


@pytest.mark.parametrize("room_name", [None, "room"])
async def test_participant_lost_while_reconnecting_has_time_to_return(
    room_state: RoomState, expected: ExpectedEvents, room_name: str | None
) -> None:
    """Contract: a reconnect or rejoin gives absent participants time to return."""
    for name in ("ann", "ben"):
        room_state.update_participant(Participant(name))
    await expected.next(ParticipantJoined, ParticipantJoined)
    room_state.remove_participant("ann")  # The SDK reports that first.
    room_state.set_reconnecting()
    room_state.set_reconnecting()
    room_state.remove_participant("ben")
    await expected.next(Reconnecting)
    with room_state.events() as late:
        assert isinstance(late.receive_nowait(), Reconnecting)
    await anyio.sleep(0.2)  # Twice the time to return passes, which begins with the reconnect.
    expected.nothing()
    room_state.set_connected(room_name)
    room_state.set_connected(room_name)
    await expected.next(Reconnected if room_name is None else Rejoined)
    room_state.update_participant(ANN)
    await expected.next(ParticipantLeft)
    expected.nothing()
    assert list(room_state.participants) == ["ann"]


async def test_repeated_changes_emit_one_event(
    room_state: RoomState, expected: ExpectedEvents
) -> None:
    """SDK quirk: changes are reported twice, late, or for unknown participants."""
    for _ in range(2):
        room_state.update_participant(ANN)
        room_state.add_track(Track("t1", "ann"))
    await expected.next(ParticipantJoined, TrackPublished)
    for _ in range(2):
        room_state.set_muted("t1", True)
    await expected.next(TrackMuted)
    for _ in range(2):
        room_state.remove_track("t1")
    await expected.next(TrackUnpublished)
    room_state.set_muted("t1", False)
    room_state.set_audio("t1", object())
    room_state.add_track(Track("t2", "nobody"))
    room_state.remove_participant("nobody")
    expected.nothing()
    room_state.add_dtmf("nobody", "1")
    await expected.next(DtmfReceived)


async def test_disconnected_is_last_event_and_stops_timers(
    room_state: RoomState, expected: ExpectedEvents
) -> None:
    """Contract: Disconnected ends every event stream, including later ones."""
    room_state.update_participant(ANN)
    room_state.remove_participant("ann")
    room_state.disconnect(DisconnectReason.ROOM_DELETED)
    room_state.disconnect(DisconnectReason.UNKNOWN)
    await expected.next(ParticipantJoined, Disconnected)
    with pytest.raises(anyio.EndOfStream):
        await expected.next(ParticipantLeft)
    await anyio.sleep(0.1)  # Twice the grace period passes.
    assert "ann" in room_state.participants  # Its timer was stopped.
    with room_state.events() as late:
        assert [event async for event in late] == [Disconnected(DisconnectReason.ROOM_DELETED)]


async def test_closed_event_stream_is_dropped(room_state: RoomState) -> None:
    """Contract: a closed event stream costs nothing."""
    room_state.events().close()
    room_state.update_participant(ANN)
    assert not room_state._streams


@given(st.lists(st.integers(1, 3 * MAX_EVENTS), min_size=1, max_size=4))
async def test_slow_event_reader_drops_oldest_and_receives_count(bursts: list[int]) -> None:
    """Contract: EventsDropped comes first and counts every dropped event."""
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


async def test_published_track_cancels_departure_of_participant(
    room_state: RoomState, expected: ExpectedEvents
) -> None:
    """SDK quirk: after a reconnect a track may arrive before its participant."""
    room_state.update_participant(ANN)
    room_state.remove_participant("ann")
    assert list(room_state.present_participants()) == []
    room_state.add_track(Track("t1", "ann"))
    assert list(room_state.present_participants()) == [ANN]
    await anyio.sleep(0.1)  # Twice the grace period passes.
    await expected.next(ParticipantJoined, TrackPublished)
    expected.nothing()
    assert room_state.tracks.keys() == {"t1"}


async def test_own_mute_is_replayed_to_later_event_stream(room_state: RoomState) -> None:
    """Contract: an event stream begins with the present state."""
    room_state.update_participant(Participant("bot", is_self=True))
    for _ in range(2):
        room_state.set_local_muted("t0", True)
    with room_state.events() as events:
        assert isinstance(events.receive_nowait(), TrackMuted)
        room_state.set_local_muted("t0", False)
        assert isinstance(events.receive_nowait(), TrackUnmuted)
    with room_state.events() as events, pytest.raises(anyio.WouldBlock):
        events.receive_nowait()


async def test_forgotten_event_stream_warns_and_is_dropped(room_state: RoomState) -> None:
    """Contract: an event stream that is collected unclosed warns, and receives nothing more."""
    with pytest.warns(ResourceWarning, match="Unclosed"):
        room_state.events()
    room_state.update_participant(ANN)
    assert not room_state._streams


async def test_undecryptable_track_is_reported_once(
    room_state: RoomState, expected: ExpectedEvents
) -> None:
    """Contract: one event for each track, which a later event stream repeats."""
    room_state.update_participant(ANN)
    room_state.add_track(Track("t1", "ann"))
    assert room_state.set_undecryptable("t1")
    assert not room_state.set_undecryptable("t1")
    assert not room_state.set_undecryptable("unknown")
    await expected.next(ParticipantJoined, TrackPublished, TrackUndecryptable)
    expected.nothing()
    with room_state.events() as late:
        first = [late.receive_nowait() for _ in range(3)]
    assert [type(each) for each in first] == [
        ParticipantJoined,
        TrackPublished,
        TrackUndecryptable,
    ]
