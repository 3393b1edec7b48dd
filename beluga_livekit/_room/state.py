"""`RoomState`: participants and tracks of the current room, kept across reconnects and rejoins."""

from collections.abc import Callable, Iterator
from typing import Any

import attrs
from anyio.streams.memory import MemoryObjectReceiveStream

from .._errors import DisconnectReason
from .._tasks import ChangeSignal, GraceTimers
from . import events as room_events
from .events import EventStream, RoomEvent
from .participants import Participant, TrackSource

# Grace for a participant that is reported as gone (s). A full reconnect of the SDK reports every
# participant as gone, at times before it reports that it reconnects, and a participant that returns
# under its identity is reported as gone first.
DEPARTURE_GRACE = 0.25
# Grace after a reconnect of ours for participants that are not back yet (s). After a restart each
# client finds the server again at another time.
RETURN_GRACE = 10.0


@attrs.define(eq=False)
class Track:
    """An audio track that a remote participant publishes."""

    sid: str  # every publication has a new one
    participant: str  # its identity
    source: TrackSource = TrackSource.MICROPHONE
    muted: bool = False
    audio: Any = None  # the SDK's track while it is subscribed to
    num_channels: int = 1  # 1 or 2
    has_preconnect_audio: bool = False  # which comes separately
    publication: Any = None  # the SDK's
    can_decrypt: Callable[[], bool] | None = None  # None: the track is not encrypted
    is_undecryptable: bool = False  # has been reported as such


class RoomState:
    """Participants and tracks of the current room. Emits events, and signals changes."""

    def __init__(self) -> None:
        self.local_participant: Participant = Participant("", is_self=True)  # "" before joining
        self.participants: dict[str, Participant] = {}  # remote ones by identity, also absent ones
        self.tracks: dict[str, Track] = {}  # those of remote participants, by SID
        self.is_reconnecting: bool = False  # the connection is lost and may come back
        self.disconnect_reason: DisconnectReason | None = None  # set when no further room follows
        self.changed: ChangeSignal = ChangeSignal()
        self._muted_sid: str | None = None  # of our own track, while it is muted
        self._absent: set[str] = set()
        self._timers = GraceTimers()  # until an absent participant counts as left
        self._streams: list[EventStream] = []

    @property
    def is_disconnected(self) -> bool:
        return self.disconnect_reason is not None

    def present_participants(self) -> Iterator[Participant]:
        return (each for each in self.participants.values() if each.identity not in self._absent)

    def events(self) -> MemoryObjectReceiveStream[RoomEvent]:
        """Return a stream of events: the present state first, then every change."""
        if self.disconnect_reason is not None:
            stream = EventStream([room_events.Disconnected(self.disconnect_reason)])
            stream.close()
            return stream.rx
        first: list[RoomEvent] = [room_events.Reconnecting()] if self.is_reconnecting else []
        first += [room_events.ParticipantJoined(each) for each in self.participants.values()]
        for track in self.tracks.values():
            first += self._published(track)
        if self._muted_sid is not None:
            first.append(self._local_mute_event(self._muted_sid, True))
        stream = EventStream(first)
        self._streams.append(stream)
        rx = stream.rx
        stream.disown_rx()
        return rx

    def update_participant(self, participant: Participant) -> None:
        """Add a participant, or update one that is present."""
        if participant.is_self:
            previous = self.local_participant if self.local_participant.identity else None
            self.local_participant = participant
        else:
            previous = self.participants.get(participant.identity)
            self.participants[participant.identity] = participant
            self._mark_present(participant.identity)
            if previous is None:
                self._emit(room_events.ParticipantJoined(participant))
        if previous is not None and previous != participant:
            self._emit(room_events.ParticipantUpdated(participant, previous))
        self.changed.set()

    def set_permissions(self, identity: str, can_publish: bool, can_subscribe: bool) -> None:
        """Note that a participant's permissions have changed; ignored for an unknown one."""
        local = self.local_participant
        participant = local if identity == local.identity else self.participants.get(identity)
        if participant is not None:
            self._emit(room_events.PermissionsChanged(participant, can_publish, can_subscribe))
            self.changed.set()

    def remove_participant(self, identity: str) -> None:
        """Remove a participant's tracks, and the participant unless it returns in time."""
        for track in [each for each in self.tracks.values() if each.participant == identity]:
            self.remove_track(track.sid)
        if identity in self.participants and identity not in self._absent:
            self._absent.add(identity)
            if not self.is_reconnecting:
                self._remove_after(DEPARTURE_GRACE, identity)

    def add_track(self, track: Track) -> None:
        """Add a track of a known participant; a SID that is present already is ignored."""
        if track.sid not in self.tracks and track.participant in self.participants:
            self._mark_present(track.participant)
            self.tracks[track.sid] = track
            for event in self._published(track):
                self._emit(event)
            self.changed.set()

    def remove_track(self, sid: str) -> None:
        if (track := self.tracks.pop(sid, None)) is not None:
            self._emit(room_events.TrackUnpublished(*self._origin(track)))
            self.changed.set()

    def set_muted(self, sid: str, muted: bool) -> None:
        if (track := self.tracks.get(sid)) is not None and track.muted != muted:
            track.muted = muted
            kind = room_events.TrackMuted if muted else room_events.TrackUnmuted
            self._emit(kind(*self._origin(track)))

    def set_local_muted(self, sid: str, muted: bool) -> None:
        if muted != (self._muted_sid is not None):
            self._muted_sid = sid if muted else None
            self._emit(self._local_mute_event(sid, muted))

    def set_audio(self, sid: str, audio: Any, num_channels: int = 1) -> None:
        """Note that a track can be read, or no longer (`audio` is None)."""
        if (track := self.tracks.get(sid)) is not None:
            track.audio, track.num_channels = audio, num_channels
            self.changed.set()

    def set_undecryptable(self, sid: str) -> bool:
        """Note that a track cannot be decrypted; return False if that is known already."""
        track = self.tracks.get(sid)
        if track is None or track.is_undecryptable:
            return False
        track.is_undecryptable = True
        self._emit(room_events.TrackUndecryptable(*self._origin(track)))
        return True

    def add_dtmf(self, identity: str | None, digit: str) -> None:
        self._emit(room_events.DtmfReceived(self.participants.get(identity or ""), digit))

    def set_reconnecting(self) -> None:
        """Note that the connection is lost; participants that leave now may only seem to."""
        if not self.is_reconnecting and not self.is_disconnected:
            self.is_reconnecting = True
            self._timers.cancel_all()
            self._emit(room_events.Reconnecting())

    def set_connected(self, rejoined: str | None = None) -> None:
        """Note that the connection is back; `rejoined` names the room if it is a new one."""
        if self.is_reconnecting:
            self.is_reconnecting = False
            reconnected = room_events.Reconnected()
            self._emit(reconnected if rejoined is None else room_events.Rejoined(rejoined))
            for identity in self._absent:
                self._remove_after(RETURN_GRACE, identity)
            self.changed.set()

    def set_rejoining(self) -> None:
        """Note that the room is lost, and that a new one may come."""
        self.set_reconnecting()
        for identity in list(self.participants):
            self.remove_participant(identity)

    def disconnect(self, reason: DisconnectReason) -> None:
        """Emit the last event and end all event streams; a second call does nothing."""
        if self.is_disconnected:
            return
        self.disconnect_reason = reason
        self._timers.cancel_all()
        self._emit(room_events.Disconnected(reason))
        for stream in self._streams:
            stream.close()
        self.changed.set()

    def _mark_present(self, identity: str) -> None:
        self._absent.discard(identity)
        self._timers.cancel(identity)

    def _remove_after(self, seconds: float, identity: str) -> None:
        def remove() -> None:
            self._absent.discard(identity)
            self._emit(room_events.ParticipantLeft(self.participants.pop(identity)))
            self.changed.set()

        self._timers.start(identity, seconds, remove)

    def _published(self, track: Track) -> list[RoomEvent]:
        origin = self._origin(track)
        events: list[RoomEvent] = [room_events.TrackPublished(*origin)]
        if track.muted:
            events.append(room_events.TrackMuted(*origin))
        if track.is_undecryptable:
            events.append(room_events.TrackUndecryptable(*origin))
        return events

    def _origin(self, track: Track) -> tuple[Participant, TrackSource, str]:
        return self.participants[track.participant], track.source, track.sid

    def _local_mute_event(self, sid: str, muted: bool) -> RoomEvent:
        kind = room_events.TrackMuted if muted else room_events.TrackUnmuted
        return kind(self.local_participant, TrackSource.MICROPHONE, sid)

    def _emit(self, event: RoomEvent) -> None:
        for stream in list(self._streams):
            if stream.has_reader:
                stream.put(event)
            else:
                stream.close()
                self._streams.remove(stream)
