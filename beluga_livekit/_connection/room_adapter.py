"""`RoomAdapter`: connects one `rtc.Room` to the session."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import anyio

from .._errors import DisconnectReason
from .._room.state import Track
from .._sdk import rtc
from .._tasks import GraceTimers
from . import encryption
from .base import SessionParts
from .microphone import Microphone
from .subscriptions import Subscriptions

# Timeout for a reconnect that is under way when we leave (s). Left before its end, the SDK
# completes it natively and leaves a participant behind for 17 s. A server answers within 0.2 s.
SETTLE_TIMEOUT = 1.0
# Time after which the connection's state counts although its event is missing (s). The SDK skips
# our handlers if a handler of the room's owner, called earlier, raises TypeError; and livekit 1.1
# does not always emit `disconnected` when the owner leaves.
STATE_GRACE = 0.5


class RoomAdapter:
    """Translates the SDK's events of one room for the session, from its making until `close`."""

    def __init__(
        self, room: rtc.Room, parts: SessionParts, microphone: Microphone, owner_grace: float = 0.0
    ) -> None:
        self.room = room
        self.subscriptions = Subscriptions(parts.room_state, owner_grace)
        self.ended = anyio.Event()
        self.reason: DisconnectReason | None = None  # of the end, if the SDK gave one
        self.joining = anyio.CancelScope()  # cancelled at the end: the SDK answers no more
        self._parts = parts
        self._microphone = microphone
        self._lost_at: float | None = None  # time.monotonic() at the loss of the connection
        self._timers = GraceTimers()
        update = self._update_participant
        self._handlers: dict[Any, Callable[..., None]] = {
            "participant_connected": update,
            "participant_disconnected": self._remove_participant,
            "participant_name_changed": lambda participant, *_: update(participant),
            "participant_metadata_changed": lambda participant, *_: update(participant),
            "participant_attributes_changed": lambda _, participant: update(participant),
            "track_published": self._add_track,
            "track_subscribed": self._set_audio,
            # A track that has gone may emit any one of the next three, and no other.
            "track_unsubscribed": self._unset_audio,
            "track_subscription_failed": lambda _, sid, *__: self.subscriptions.failed(sid),
            "track_unpublished": self._remove_track,
            "track_muted": lambda participant, track: self._set_muted(participant, track, True),
            "track_unmuted": lambda participant, track: self._set_muted(participant, track, False),
            "e2ee_state_changed": partial(encryption.set_state, parts),
            "participant_permissions_changed": self._set_permissions,
            "sip_dtmf_received": self._add_dtmf,
            "local_track_subscribed": self._local_track_subscribed,
            "local_track_republished": self._local_track_republished,
            "local_track_unpublished": microphone.unpublished,
            "reconnecting": self._set_reconnecting,
            "reconnected": self._set_reconnected,
            "disconnected": lambda reason: self._end(rtc.disconnect_reason(reason)),
            "connection_state_changed": self._check_state,
        }
        if parts.readers.preconnect is not None:
            parts.readers.preconnect.register(room, parts.readers.start_soon)
        for event, handler in self._handlers.items():
            room.on(event, handler)

    @property
    def is_reconnecting(self) -> bool:
        """Whether the connection is lost, for now or for good."""
        return self._lost_at is not None

    def scan(self) -> None:
        """Add the participants and tracks that were there before us: no event reports them."""
        self._update_participant(self.room.local_participant)
        for participant in self.room.remote_participants.values():
            self._update_participant(participant)
            for publication in participant.track_publications.values():
                self._add_track(publication, participant)
                if publication.track is not None and self.subscriptions.is_permitted:
                    self._set_audio(publication.track, publication, participant)

    async def publish(self) -> None:
        """Publish our track, and start playback."""
        await self._microphone.publish(self.room)
        if not self.is_reconnecting:
            self._parts.pump.gate.resume()

    async def settle(self) -> None:
        """Wait for the end of a reconnect that is under way; up to `SETTLE_TIMEOUT`."""
        with anyio.move_on_after(SETTLE_TIMEOUT):
            while self.is_reconnecting and not self.ended.is_set():
                await self._parts.room_state.changed.wait()

    def close(self) -> None:
        """Remove the event handlers and stop the timers."""
        for event, handler in self._handlers.items():
            self.room.off(event, handler)
        if self._handlers and self._parts.readers.preconnect is not None:
            self._parts.readers.preconnect.unregister(self.room)
        self._handlers.clear()
        self.subscriptions.close()
        self._timers.cancel_all()

    def _update_participant(self, participant: Any) -> None:
        is_self = participant is self.room.local_participant
        self._parts.room_state.update_participant(rtc.participant_of(participant, is_self=is_self))

    def _remove_participant(self, participant: Any) -> None:
        for sid in participant.track_publications:
            self.subscriptions.forget(sid)
        self._parts.room_state.remove_participant(participant.identity)

    def _add_track(self, publication: Any, participant: Any) -> None:
        if (source := rtc.source_of(publication)) is not None:
            track = Track(
                publication.sid,
                participant.identity,
                source,
                muted=publication.muted,
                has_preconnect_audio=rtc.TF_PRECONNECT_BUFFER in publication.audio_features,
                publication=publication,
                can_decrypt=encryption.decryption_of(self.room, publication),
            )
            self._parts.room_state.add_track(track)

    def _remove_track(self, publication: Any, participant: Any) -> None:
        self.subscriptions.forget(publication.sid)
        self._parts.room_state.remove_track(publication.sid)

    def _set_audio(self, audio: Any, publication: Any, participant: Any) -> None:
        self.subscriptions.confirm(publication.sid)
        num_channels = 2 if rtc.TF_STEREO in publication.audio_features else 1
        self._parts.room_state.set_audio(publication.sid, audio, num_channels)
        if publication.encryption_type:
            self._parts.readers.start_soon(encryption.watch, self._parts, publication.sid, audio)

    def _unset_audio(self, audio: Any, publication: Any, participant: Any) -> None:
        self.subscriptions.unsubscribed(publication.sid)
        self._parts.room_state.set_audio(publication.sid, None)

    def _set_muted(self, participant: Any, publication: Any, muted: bool) -> None:
        if participant is not self.room.local_participant:
            self._parts.room_state.set_muted(publication.sid, muted)
        elif self._microphone.owns(publication.track):
            self._microphone.muted_by_server(muted)
            self._parts.room_state.set_local_muted(publication.sid, muted)

    def _add_dtmf(self, dtmf: Any) -> None:
        identity = dtmf.participant.identity if dtmf.participant is not None else None
        self._parts.room_state.add_dtmf(identity, dtmf.digit)

    def _set_permissions(self, participant: Any, permissions: Any) -> None:
        self._parts.room_state.set_permissions(
            participant.identity, permissions.can_publish, permissions.can_subscribe
        )
        if participant is self.room.local_participant:
            self.subscriptions.set_permitted(permissions.can_subscribe)
            self._microphone.set_permitted(rtc.may_publish(self.room))

    def _local_track_subscribed(self, track: Any) -> None:
        if self._microphone.owns(track):
            self._microphone.first_subscriber.subscribed()

    def _local_track_republished(self, publication: Any) -> None:
        if self._microphone.owns(publication.track):
            self._microphone.republished()

    def _set_reconnecting(self) -> None:
        self._lost_at = time.monotonic()
        self._parts.log.warning("connection lost; reconnecting")
        self._microphone.set_reconnecting(True)
        self._parts.room_state.set_reconnecting()

    def _set_reconnected(self) -> None:
        if self._lost_at is None:
            return
        self._parts.log.info("reconnected after %.1f s", time.monotonic() - self._lost_at)
        self._lost_at = None
        self.subscriptions.check_all()
        self._parts.room_state.set_connected()
        self.scan()
        self._microphone.set_reconnecting(False)

    def _end(self, reason: DisconnectReason | None) -> None:
        if not self.ended.is_set():
            self.reason = reason
            self._lost_at = time.monotonic()
            self.joining.cancel()
            self.ended.set()
            self._microphone.end()

    def _check_state(self, state: Any) -> None:
        self._timers.cancel("state")
        if state == rtc.ConnectionState.CONN_DISCONNECTED:
            self._timers.start("state", STATE_GRACE, lambda: self._end(None))
        elif state != rtc.ConnectionState.CONN_RECONNECTING:
            self._timers.start("state", STATE_GRACE, self._set_reconnected)
