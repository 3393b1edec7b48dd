"""What connects a session: a room on a server, or its own track played back to it."""

from __future__ import annotations

import inspect
import logging
from typing import Any, Protocol

import anyio

from . import _rtc
from ._config import SessionOptions, Token, read_token
from ._errors import ConfigError, ConnectError, DisconnectReason, LiveKitError, display_url
from ._receive import Receiver
from ._send import Sender

__all__ = ["Link", "LoopbackLink", "RoomLink"]

_log = logging.getLogger("beluga_livekit")


class Link(Protocol):
    """What a session needs of whatever it is connected to."""

    ended: anyio.Event
    """Set when the connection is gone for good."""
    reason: DisconnectReason | None
    """Why, once it is."""
    receives_only: bool
    """Whether nothing can be sent, by what was asked for or granted."""
    linger: float
    """How long, in seconds, after its sound has left the SDK's queue a sender has to stay."""

    @property
    def room(self) -> _rtc.Room: ...

    async def join(self, receiver: Receiver, sender: Sender) -> None:
        """Connects the two ends; nothing stays open where it fails."""

    async def stop_receiving(self) -> None: ...

    async def stop_sending(self) -> None: ...

    async def leave(self) -> None:
        """Disconnects, in bounded time."""


class RoomLink:
    """A place in a room, taken with a token."""

    # Sound that was played has yet to be encoded, sent, and read out of the far side's jitter
    # buffer. Leaving at once cuts off the end of the last word.
    linger = 0.2

    def __init__(self, url: str, token: Token, room: str | None, options: SessionOptions) -> None:
        self._url = url
        self._token = token
        self._room_name = room
        self._options = options
        self._room: _rtc.Room | None = None
        self._publication: _rtc.Publication | None = None
        self._receiving = True
        self.receives_only = False
        self.ended = anyio.Event()
        self.reason: DisconnectReason | None = None

    @property
    def room(self) -> _rtc.Room:
        if self._room is None:
            raise LiveKitError("livekit: the room has not been joined yet")
        return self._room

    async def join(self, receiver: Receiver, sender: Sender) -> None:
        self._receiver, self._sender = receiver, sender
        with anyio.move_on_after(self._options.connect_timeout) as scope:
            await self._join()
        if scope.cancelled_caught:
            raise ConnectError(
                f"livekit: cannot join {display_url(self._url)}: "
                f"no answer within {self._options.connect_timeout:g} s"
            )

    async def _join(self) -> None:
        token = self._token if isinstance(self._token, str) else await _fresh(self._token)
        grants = read_token(token, room=self._room_name)
        room = self._room = _rtc.new_room()
        self._listen_to(room, self._receiver, self._sender)
        if self._options.on_room is not None:
            self._options.on_room(room)
        await _rtc.join(room, self._url, token, grants, self._options)
        if room.name != grants.room:
            raise ConnectError(f"livekit: joined {room.name!r} instead of {grants.room!r}")
        for publication in self._publications():
            self._on_published(publication)
        if self._options.send and grants.can_publish:
            self._publication = await _rtc.publish(room, self._sender.source, self._options)
            self._sender.release()
        else:
            self.receives_only = True
            self._sender.finish()
        _log.info("livekit: joined room %r as %r", room.name, grants.identity)

    async def stop_receiving(self) -> None:
        self._receiving = False
        for publication in self._publications():
            if _rtc.is_heard(publication):
                publication.set_subscribed(False)

    async def stop_sending(self) -> None:
        if self._publication is not None and not self.ended.is_set():
            await _rtc.unpublish(self.room, self._publication)

    async def leave(self) -> None:
        if self._room is None or not self._room.isconnected():
            return
        await _rtc.leave(self._room)
        if self.reason is None:  # the SDK does not always say so
            self.reason = DisconnectReason.CLIENT_INITIATED

    def _publications(self) -> list[Any]:
        participants = self.room.remote_participants.values()
        return [p for participant in participants for p in participant.track_publications.values()]

    def _listen_to(self, room: _rtc.Room, receiver: Receiver, sender: Sender) -> None:
        room.on("track_published", self._on_published)
        room.on("track_subscribed", self._on_subscribed)
        # Any of these may be all that is said of a track that has gone.
        room.on("track_unsubscribed", lambda _, publication: receiver.stop(publication.sid))
        room.on("track_unpublished", lambda publication: receiver.stop(publication.sid))
        room.on("participant_disconnected", self._on_left)
        room.on("local_track_subscribed", sender.heard)
        room.on("reconnecting", self._on_reconnecting)
        room.on("reconnected", self._on_reconnected)
        room.on("disconnected", self._on_disconnected)

    def _on_published(self, publication: Any) -> None:
        if self._receiving and _rtc.is_heard(publication):
            publication.set_subscribed(True)

    def _on_subscribed(self, track: Any, publication: Any, participant: Any) -> None:
        if self._receiving and _rtc.is_heard(publication):
            channels = _rtc.heard_channels(publication)
            self._receiver.start(track, publication.sid, participant.identity, channels)

    def _on_left(self, participant: Any) -> None:
        for sid in participant.track_publications:
            self._receiver.stop(sid)

    def _on_reconnecting(self) -> None:
        _log.warning("livekit: connection lost, reconnecting")
        self._sender.hold()

    def _on_reconnected(self) -> None:
        _log.info("livekit: reconnected")
        # What was subscribed to while a full reconnect was under way has been lost.
        for publication in self._publications():
            if not publication.subscribed:
                self._on_published(publication)
        self._sender.release()

    def _on_disconnected(self, reason: Any) -> None:
        if self.reason is None:
            self.reason = _rtc.reason_of(reason)
            _log.info("livekit: disconnected: %s", self.reason)
            self.ended.set()


class LoopbackLink:
    """No room: what is sent is received, through the SDK's own native audio."""

    PARTICIPANT = "loopback"
    linger = 0.0
    receives_only = False

    def __init__(self) -> None:
        self.ended = anyio.Event()
        self.reason: DisconnectReason | None = None

    @property
    def room(self) -> _rtc.Room:
        raise LiveKitError("livekit: a loopback session has no room")

    async def join(self, receiver: Receiver, sender: Sender) -> None:
        self._receiver = receiver
        # A track that was never published has no SID, and needs one to be told apart.
        track = _rtc.local_track(sender.source)
        self._sid = track.sid or self.PARTICIPANT
        receiver.start(track, self._sid, self.PARTICIPANT, sender.source.num_channels)
        sender.heard()
        sender.release()

    async def stop_receiving(self) -> None:
        self._receiver.stop(self._sid)

    async def stop_sending(self) -> None:
        """The source goes silent by itself, as a microphone does."""

    async def leave(self) -> None:
        if self.reason is None:
            self.reason = DisconnectReason.CLIENT_INITIATED
            self.ended.set()


async def _fresh(token: Any) -> str:
    """Asks the user's callable for a token."""
    fresh = token()
    if inspect.isawaitable(fresh):
        fresh = await fresh
    if not isinstance(fresh, str):
        raise ConfigError(f"livekit: the token callable returned {type(fresh).__name__}, not str")
    return fresh
