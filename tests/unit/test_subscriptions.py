"""Subscriptions: one state for each remote track of a room."""

from __future__ import annotations

from collections.abc import Iterator

import anyio
import pytest

from beluga_livekit import Participant
from beluga_livekit._connection.subscriptions import Subscriptions
from beluga_livekit._room.state import RoomState, Track

pytestmark = pytest.mark.anyio

SID = "TR_a"


class FakePublication:
    """Records calls. A fake, as the states of a real one take a server and seconds."""

    def __init__(self) -> None:
        self.subscribed = False
        self.track: object = None
        self.calls: list[bool] = []

    def set_subscribed(self, subscribed: bool) -> None:
        self.calls.append(subscribed)


class Room:
    """A room state with one track, and the subscriptions in it."""

    def __init__(self, owner_grace: float = 0.0) -> None:
        self.publication = FakePublication()
        self.state = RoomState()
        self.state.update_participant(Participant("ann"))
        self.state.add_track(Track(SID, "ann", publication=self.publication))
        self.subscriptions = Subscriptions(self.state, owner_grace)

    @property
    def calls(self) -> list[bool]:
        return self.publication.calls

    def subscribed(self) -> None:
        """Report the track as subscribed to, as the SDK does."""
        self.publication.subscribed = True
        self.subscriptions.confirm(SID)
        self.state.set_audio(SID, object())

    def unsubscribed(self) -> None:
        self.publication.subscribed = False
        self.subscriptions.unsubscribed(SID)
        self.state.set_audio(SID, None)


@pytest.fixture
def room() -> Iterator[Room]:
    room = Room()
    yield room
    room.subscriptions.close()


async def test_track_is_subscribed_to_once_while_it_is_wanted(room: Room) -> None:
    """Contract: a plan that does not change costs no request."""
    for _ in range(3):
        room.subscriptions.apply({SID})
    room.subscribed()
    room.subscriptions.apply({SID})
    assert room.calls == [True]


async def test_track_is_released_only_once_its_audio_is_there(room: Room) -> None:
    """SDK quirk: an unsubscription before the audio is there is forgotten."""
    room.subscriptions.apply({SID})
    room.subscriptions.apply(())
    assert room.calls == [True]
    room.subscribed()
    room.subscriptions.apply(())
    room.subscriptions.apply(())
    assert room.calls == [True, False]


async def test_released_track_is_resubscribed_when_it_is_wanted_again(room: Room) -> None:
    """Contract: a release that is under way is completed first."""
    room.subscriptions.apply({SID})
    room.subscribed()
    room.subscriptions.apply(())
    room.subscriptions.apply({SID})
    assert room.calls == [True, False]
    room.unsubscribed()
    room.subscriptions.apply({SID})
    assert room.calls == [True, False, True]


async def test_track_is_left_alone_when_other_code_unsubscribes_or_it_fails(room: Room) -> None:
    """Contract: subscriptions are retried after a reconnect, not at once."""
    room.subscriptions.apply({SID})
    room.subscribed()
    room.unsubscribed()
    room.subscriptions.apply({SID})
    assert room.calls == [True]
    room.subscriptions.check_all()
    room.subscriptions.apply({SID})
    assert room.calls == [True, True]
    room.subscriptions.failed(SID)
    room.subscriptions.apply({SID})
    assert room.calls == [True, True]


async def test_track_is_resubscribed_when_a_full_reconnect_has_lost_it(room: Room) -> None:
    """SDK quirk: a full reconnect loses subscriptions that were under way, without an event."""
    room.subscriptions.apply({SID})
    room.subscriptions.check_all()
    room.subscriptions.apply({SID})
    assert room.calls == [True, True]


async def test_owner_may_subscribe_first_in_an_attached_room() -> None:
    """Contract: what the owner of the room subscribes to is not ours to release."""
    room = Room(owner_grace=0.01)
    room.subscriptions.apply({SID})
    assert not room.calls
    room.subscribed()
    await anyio.sleep(0.05)  # the grace expires
    room.subscriptions.apply(())
    assert not room.calls


async def test_wait_for_the_owner_ends_when_the_track_is_not_wanted() -> None:
    """Contract: a plan that changes within the grace leaves no subscription behind."""
    room = Room(owner_grace=0.01)
    room.subscriptions.apply({SID})
    room.subscriptions.apply(())
    await anyio.sleep(0.05)  # the grace would have expired
    assert not room.calls


async def test_release_all_waits_for_each_confirmation(room: Room) -> None:
    """Contract: an attached room is left as it was found."""
    ended = anyio.Event()
    room.subscriptions.apply({SID})
    released = anyio.Event()

    async def release() -> None:
        await room.subscriptions.release_all(ended)
        released.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(release)
        await anyio.wait_all_tasks_blocked()
        assert room.calls == [True]
        room.subscribed()
        await anyio.wait_all_tasks_blocked()
        assert room.calls == [True, False]
        assert not released.is_set()
        room.unsubscribed()
    assert released.is_set()


async def test_release_all_ends_with_the_room(room: Room) -> None:
    """SDK quirk: after its end a room confirms nothing."""
    ended = anyio.Event()
    room.subscriptions.apply({SID})
    room.subscribed()
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(room.subscriptions.release_all, ended)
            await anyio.wait_all_tasks_blocked()
            ended.set()
            room.state.changed.set()


async def test_track_is_not_read_while_subscribing_is_not_permitted(room: Room) -> None:
    """SDK quirk: a revocation has no event of the track; after a grant it is subscribed anew."""
    track = room.state.tracks[SID]
    room.subscriptions.apply({SID})
    room.subscribed()
    room.publication.track = audio = object()
    room.subscriptions.set_permitted(False)
    assert track.audio is None
    room.subscriptions.apply({SID})
    room.subscriptions.set_permitted(True)
    assert track.audio is audio
    for _ in range(2):  # The server may renew the subscription, also more than once.
        room.unsubscribed()
        room.subscriptions.apply({SID})
        room.subscribed()
        room.subscriptions.set_permitted(False)
        room.subscriptions.set_permitted(True)
    assert room.calls == [True]
    room.subscriptions.apply(())
    assert room.calls == [True, False]
