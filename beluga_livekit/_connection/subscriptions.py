"""Subscriptions: the coordinator of a session, and one state for each remote track of a room."""

import enum
from collections.abc import Collection
from typing import Any

import anyio

from .._receive.plan import plan
from .._receive.track_readers import TrackReaders
from .._room.state import RoomState, Track
from .._tasks import GraceTimers
from .base import Connection


async def coordinate(connection: Connection, readers: TrackReaders, room_state: RoomState) -> None:
    """Apply a new plan whenever the room state or the open pipelines have changed."""
    while True:
        # No await between making the plan and waiting: a change in between would be missed.
        target = plan(room_state, readers.open_pipelines())
        connection.subscribe(target.subscribe)
        readers.apply(target)
        await room_state.changed.wait()


class _State(enum.Enum):
    WAITING = enum.auto()  # for the owner of an attached room, who may subscribe first
    SUBSCRIBED = enum.auto()  # by us, or about to be
    SUSPENDED = enum.auto()  # by us, until the permission was revoked; a grant may renew it
    RELEASING = enum.auto()  # we have unsubscribed, and the SDK has not confirmed
    LEFT_ALONE = enum.auto()  # it failed, or other code has unsubscribed


class Subscriptions:
    """Our subscriptions in one room. A track without a state is not subscribed to by us."""

    def __init__(self, room_state: RoomState, owner_grace: float) -> None:
        self._room_state = room_state
        self._owner_grace = owner_grace  # (s) to subscribe before we do
        self._states: dict[str, _State] = {}  # by track SID
        self._publications: dict[str, Any] = {}  # of the tracks that we have subscribed to
        self.is_permitted: bool = True  # to subscribe, as far as the SDK has reported
        self._timers = GraceTimers()

    def set_permitted(self, permitted: bool) -> None:
        """Stop reading all tracks while we may not subscribe, and continue afterwards.

        The SDK has no event for the revocation: its tracks stay subscribed and deliver nothing. On
        a grant the server subscribes anew, and the SDK reports the track as unsubscribed first.
        """
        if permitted == self.is_permitted:
            return
        self.is_permitted = permitted
        for sid, track in self._room_state.tracks.items():
            if (audio := getattr(track.publication, "track", None)) is not None:
                if self._states.get(sid) is _State.SUBSCRIBED:
                    self._states[sid] = _State.SUSPENDED
                self._room_state.set_audio(sid, audio if permitted else None, track.num_channels)

    def apply(self, sids: Collection[str]) -> None:
        """Subscribe to these tracks; release the others that we have subscribed to."""
        for sid, track in self._room_state.tracks.items():
            state = self._states.get(sid)
            if sid in sids:
                if state is None and track.audio is None:
                    self._subscribe(sid, track)
            elif state is _State.WAITING:
                self.forget(sid)
            elif state is _State.SUSPENDED or (
                state is _State.SUBSCRIBED and track.audio is not None
            ):
                # Before the audio is there the SDK would forget an unsubscription.
                self._states[sid] = _State.RELEASING
                track.publication.set_subscribed(False)

    async def release_all(self, ended: anyio.Event) -> None:
        """Release all our subscriptions; wait until the SDK has confirmed, or the room ended."""
        self.apply(())
        while self._publications and not ended.is_set():
            await self._room_state.changed.wait()
            self.apply(())

    def confirm(self, sid: str) -> None:
        """Note that a track is subscribed to, by us or by other code."""
        state = self._states.get(sid)
        if state is _State.LEFT_ALONE:
            self.forget(sid)
        elif state is _State.SUSPENDED:
            self._states[sid] = _State.SUBSCRIBED

    def unsubscribed(self, sid: str) -> None:
        """Note that a track is no longer subscribed to, by our release or by other code."""
        state = self._states.get(sid)
        if state is _State.RELEASING:
            self.forget(sid)
        elif state is not _State.SUSPENDED:
            self.failed(sid)

    def failed(self, sid: str) -> None:
        self.forget(sid)
        self._states[sid] = _State.LEFT_ALONE

    def forget(self, sid: str) -> None:
        """Forget a track, which `apply` may then subscribe to again."""
        self._publications.pop(sid, None)
        self._timers.cancel(sid)
        if self._states.pop(sid, None) is not None:
            self._room_state.changed.set()

    def check_all(self) -> None:
        """Forget what a full reconnect has lost; retry what failed."""
        for sid, state in list(self._states.items()):
            publication = self._publications.get(sid)
            if state is _State.LEFT_ALONE or (publication and not publication.subscribed):
                self.forget(sid)

    def close(self) -> None:
        self._timers.cancel_all()

    def _subscribe(self, sid: str, track: Track) -> None:
        def subscribe() -> None:
            self._states.pop(sid, None)
            if not track.publication.subscribed:  # by the owner of the room
                self._states[sid] = _State.SUBSCRIBED
                self._publications[sid] = track.publication
                track.publication.set_subscribed(True)

        if self._owner_grace:
            self._states[sid] = _State.WAITING
            self._timers.start(sid, self._owner_grace, subscribe)
        else:
            subscribe()
