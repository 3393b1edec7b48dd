"""What happens in one room, told to the room_state and to the pump; and its microphone there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import anyio

from .._errors import DisconnectReason
from .._logging import SessionLog
from .._options import SessionOptions
from .._receive.track_readers import TrackReaders
from .._room.state import RoomState, Track
from .._sdk import rtc
from .._send.pump import SendPump

__all__ = ["RoomAdapter"]

# Left in the middle of a reconnect, the SDK completes it natively and leaves a participant behind
# for 17 s. A server that lives takes 0.2 s to answer.
SETTLE_TIMEOUT = 1.0

# The end is not always told: not to us if the owner of an attached room has a handler, called
# before ours, that raises TypeError; and at times to nobody, where the owner leaves (livekit 1.1).
# The state of the connection is told separately, so after this long it counts.
LATE = 0.5


class RoomAdapter:
    """Ties a room to a room_state and a pump, from its making until `undo`.

    Args:
        room: Connected, or about to be.
        readers: Says which tracks to subscribe to; its room_state is told who is there.
        pump: Is told when to wait; its source is what `publish` publishes.
        options: The session's.
        log: The session's.
        patience: How long, in seconds, whoever owns the room has to subscribe to a new track
            before we do.
    """

    def __init__(
        self,
        room: rtc.Room,
        readers: TrackReaders,
        pump: SendPump,
        options: SessionOptions,
        log: SessionLog,
        *,
        patience: float = 0.0,
    ) -> None:
        self.room = room
        self.ended = anyio.Event()
        self.reason: DisconnectReason | None = None
        """Why it has ended, if anybody has said so."""
        self.joining = anyio.CancelScope()
        """For joining: cancelled when the room ends, after which the SDK answers nothing."""
        self._readers_of_session = readers
        self._roster: RoomState = readers.room_state
        self._pump = pump
        self._options = options
        self._log = log
        self._patience = patience
        self._waiting: dict[str, asyncio.TimerHandle] = {}  # for the owner, by track SID
        self._subscribed: dict[str, rtc.RemotePublication] = {}  # by us, by track SID
        self._returning: set[str] = set()  # of them, what we have unsubscribed from
        self._left_alone: set[str] = set()  # what failed, or somebody else unsubscribed from
        self._unsubscribing = False
        self._given_back = anyio.Event()
        self._track: rtc.LocalTrack | None = None
        self._publication: rtc.Publication | None = None
        self._interrupted: float | None = None  # time.monotonic() when the connection went away
        self._settled = anyio.Event()  # it came back, or did not
        self._late: asyncio.TimerHandle | None = None
        self._handlers: dict[Any, Callable[..., None]] = {
            "participant_connected": self._on_joined,
            "participant_disconnected": self._on_left,
            "participant_name_changed": lambda participant, *_: self._on_joined(participant),
            "participant_metadata_changed": lambda participant, *_: self._on_joined(participant),
            "participant_attributes_changed": lambda _, participant: self._on_joined(participant),
            "track_published": self._on_published,
            "track_subscribed": self._on_subscribed,
            # Any of these may be all that is said of a track that has gone.
            "track_unsubscribed": self._on_unsubscribed,
            "track_subscription_failed": self._on_failed,
            "track_unpublished": self._on_unpublished,
            "track_muted": lambda participant, track: self._on_muted(participant, track, True),
            "track_unmuted": lambda participant, track: self._on_muted(participant, track, False),
            "sip_dtmf_received": self._on_dtmf,
            "local_track_subscribed": self._on_heard,
            "local_track_republished": self._on_republished,
            "reconnecting": self._on_reconnecting,
            "reconnected": self._on_reconnected,
            "disconnected": self._on_disconnected,
            "connection_state_changed": self._on_state,
        }
        if readers.preconnect is not None:
            readers.preconnect.register(room, readers.start_soon)
        for event, handler in self._handlers.items():
            room.on(event, handler)
        readers.subscribe = self._subscribe_to_wanted

    @property
    def is_interrupted(self) -> bool:
        """Whether nobody is there to answer."""
        return self._interrupted is not None

    def scan(self) -> None:
        """Looks at who was there before us, as no event tells of them."""
        self._on_joined(self.room.local_participant)
        for participant in self.room.remote_participants.values():
            self._on_joined(participant)
            for publication in participant.track_publications.values():
                self._on_published(publication, participant)
                if publication.track is not None:
                    self._on_subscribed(publication.track, publication, participant)

    async def publish(self) -> None:
        """Publishes the pump's source, and lets it flow."""
        self._track = rtc.local_track((await self._pump.open()).rtc)
        self._pump.gate.unsubscribed()
        self._publication = await rtc.publish(self.room, self._track, self._options)
        self.apply_mute()
        self._release()

    def apply_mute(self) -> None:
        """Mutes the microphone, or no longer, as the pump is."""
        if self._track is not None and self._track.muted != self._pump.muted:
            rtc.mute(self._track, self._pump.muted)

    async def unpublish(self) -> None:
        """Takes the microphone away again, where there is one; bounded."""
        publication, self._publication = self._publication, None
        if publication is not None and self.room.isconnected():
            await rtc.unpublish(self.room, publication)

    async def unsubscribe(self) -> None:
        """Gives back what we have subscribed to, and waits until that is done."""
        self._unsubscribing, self._given_back = True, anyio.Event()
        self._subscribe_to_wanted()
        if self._subscribed and not self.ended.is_set():
            await self._given_back.wait()

    async def settle(self) -> None:
        """Waits, while the SDK reconnects, for the outcome; up to `SETTLE_TIMEOUT`."""
        if self.is_interrupted:
            with anyio.move_on_after(SETTLE_TIMEOUT):
                await self._settled.wait()

    def undo(self) -> None:
        """Lets go of the room's events."""
        for event, handler in self._handlers.items():
            self.room.off(event, handler)
        if self._handlers and self._readers_of_session.preconnect is not None:
            self._readers_of_session.preconnect.unregister(self.room)
        self._handlers.clear()
        for timer in (*self._waiting.values(), *([self._late] if self._late else [])):
            timer.cancel()
        self._readers_of_session.subscribe = None

    def _on_joined(self, participant: Any) -> None:
        is_self = participant is self.room.local_participant
        self._roster.enter(rtc.describe(participant, is_self=is_self))

    def _on_left(self, participant: Any) -> None:
        for sid in participant.track_publications:
            self._forget(sid)
            self._left_alone.discard(sid)
        self._roster.leave(participant.identity)

    def _on_published(self, publication: Any, participant: Any) -> None:
        if (source := rtc.source_of(publication)) is not None:
            track = Track(
                publication.sid,
                participant.identity,
                source,
                muted=publication.muted,
                has_preconnect_audio=rtc.has_preconnect_audio(publication),
                publication=publication,
            )
            self._roster.publish(track)

    def _on_subscribed(self, audio: Any, publication: Any, participant: Any) -> None:
        self._left_alone.discard(publication.sid)
        self._roster.hear(publication.sid, audio, rtc.num_channels_of(publication))

    def _on_unsubscribed(self, audio: Any, publication: Any, participant: Any) -> None:
        if publication.sid not in self._returning:
            self._left_alone.add(publication.sid)
        self._forget(publication.sid)
        self._roster.hear(publication.sid, None)

    def _on_failed(self, participant: Any, sid: str, *_: Any) -> None:
        self._left_alone.add(sid)
        self._forget(sid)

    def _on_unpublished(self, publication: Any, participant: Any) -> None:
        self._forget(publication.sid)
        self._left_alone.discard(publication.sid)
        self._roster.unpublish(publication.sid)

    def _subscribe_to_wanted(self) -> None:
        """Subscribes to what is wanted, and gives back what is not, as far as it was ours."""
        for sid, track in self._roster.tracks.items():
            wanted = sid in self._readers_of_session.wanted and not self._unsubscribing
            if sid in self._subscribed:
                # What is under way cannot be taken back before it is there: the SDK would forget
                # about it.
                if not wanted and track.audio is not None and sid not in self._returning:
                    self._returning.add(sid)
                    track.publication.set_subscribed(False)
            elif not wanted:
                if sid in self._waiting:
                    self._waiting.pop(sid).cancel()
            elif track.audio is None and sid not in self._waiting and sid not in self._left_alone:
                self._subscribe_soon(sid, track.publication)

    def _subscribe_soon(self, sid: str, publication: Any) -> None:
        def subscribe() -> None:
            self._waiting.pop(sid, None)
            if not publication.subscribed:  # by the owner
                publication.set_subscribed(True)
                self._subscribed[sid] = publication

        if self._patience:
            loop = asyncio.get_running_loop()
            self._waiting[sid] = loop.call_later(self._patience, subscribe)
        else:
            subscribe()

    def _forget(self, sid: str) -> None:
        """A track is no longer subscribed to."""
        self._returning.discard(sid)
        if self._subscribed.pop(sid, None) is not None and not self._subscribed:
            self._given_back.set()
        if sid in self._waiting:
            self._waiting.pop(sid).cancel()

    def _on_muted(self, participant: Any, publication: Any, muted: bool) -> None:
        if participant is not self.room.local_participant:
            self._roster.mute(publication.sid, muted)
        elif publication.track is self._track:
            self._pump.muted = muted
            self._roster.mute_self(publication.sid, muted)

    def _on_dtmf(self, pressed: Any) -> None:
        pump = pressed.participant
        self._roster.press(pump.identity if pump is not None else None, pressed.digit)

    def _on_heard(self, track: Any) -> None:
        if track is self._track:
            self._pump.gate.subscribed()

    def _on_republished(self, publication: Any) -> None:
        if publication.track is self._track:  # a new track to everybody, who has yet to subscribe
            self._pump.gate.unsubscribed()
            self.apply_mute()

    def _on_reconnecting(self) -> None:
        self._interrupted, self._settled = time.monotonic(), anyio.Event()
        self._log.warning("connection lost, reconnecting")
        self._pump.gate.pause()
        self._roster.interrupted()

    def _on_reconnected(self) -> None:
        if self._interrupted is None:
            return
        self._log.info("reconnected after %.1f s", time.monotonic() - self._interrupted)
        self._interrupted = None
        self._settled.set()
        # What was subscribed to while a full reconnect was under way has been lost.
        for sid, publication in list(self._subscribed.items()):
            if not publication.subscribed:
                self._forget(sid)
        self._left_alone.clear()
        self._roster.restored()
        self.scan()
        self._release()

    def _release(self) -> None:
        """Lets the pump play, if somebody is there to hear it."""
        if self._publication is not None and self._interrupted is None:
            self._pump.gate.resume()

    def _on_disconnected(self, reason: Any) -> None:
        self._end(rtc.reason_of(reason))

    def _end(self, reason: DisconnectReason | None) -> None:
        if not self.ended.is_set():
            self.reason = reason
            self._interrupted = time.monotonic()
            self._pump.gate.pause()
            self.joining.cancel()
            self.ended.set()
            self._settled.set()
            self._given_back.set()

    def _on_state(self, state: Any) -> None:
        if self._late is not None:
            self._late.cancel()
        loop = asyncio.get_running_loop()
        if rtc.is_over(state):
            self._late = loop.call_later(LATE, self._end, None)
        elif not rtc.is_away(state):
            self._late = loop.call_later(LATE, self._on_reconnected)
