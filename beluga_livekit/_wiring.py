"""What happens in one room, told to the two ends of a session; and its microphone there."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import anyio

from . import _rtc
from ._config import SessionOptions
from ._errors import DisconnectReason
from ._log import SessionLog
from ._receive import Receiver
from ._send import Sender

__all__ = ["Wiring"]

# Of one participant no more tracks than this are heard at a time; people have one microphone. Each
# costs CPU, and with a hundred of them the SDK delivers nobody's sound in time.
MAX_TRACKS = 8

# Left in the middle of a reconnect, the SDK completes it natively and leaves a participant behind
# for 17 s. A server that lives takes 0.2 s to answer.
SETTLE_TIMEOUT = 1.0

# The end is not always told: not to us if the owner of an attached room has a handler, called
# before ours, that raises TypeError; and at times to nobody, where the owner leaves (livekit 1.1).
# The state of the connection is told separately, so after this long it counts.
LATE = 0.5


class Wiring:
    """Ties a room to a receiver and a sender, from its making until `undo`.

    Args:
        room: Connected, or about to be.
        receiver: Is told which tracks to read.
        sender: Is told when to wait; its source is what `publish` publishes.
        options: The session's.
        log: The session's.
        patience: How long, in seconds, whoever owns the room has to subscribe to a new track
            before we do.
    """

    def __init__(
        self,
        room: _rtc.Room,
        receiver: Receiver,
        sender: Sender,
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
        self._receiver = receiver
        self._sender = sender
        self._options = options
        self._log = log
        self._patience = patience
        self._waiting: dict[str, asyncio.TimerHandle] = {}  # by track SID
        self._heard: defaultdict[str, set[str]] = defaultdict(set)  # track SIDs by identity
        self._subscribed: dict[str, _rtc.RemotePublication] = {}  # by us
        self._unsubscribing = False
        self._given_back = anyio.Event()
        self._track: _rtc.Track | None = None
        self._publication: _rtc.Publication | None = None
        self._interrupted: float | None = None  # time.monotonic() when the connection went away
        self._settled = anyio.Event()  # it came back, or did not
        self._late: asyncio.TimerHandle | None = None
        self._handlers: dict[Any, Callable[..., None]] = {
            "track_published": self._on_published,
            "track_subscribed": self._on_subscribed,
            # Any of these may be all that is said of a track that has gone.
            "track_unsubscribed": self._on_unsubscribed,
            "track_subscription_failed": self._on_failed,
            "track_unpublished": self._on_unpublished,
            "participant_disconnected": self._on_left,
            "local_track_subscribed": self._on_heard,
            "local_track_republished": self._on_republished,
            "reconnecting": self._on_reconnecting,
            "reconnected": self._on_reconnected,
            "disconnected": self._on_disconnected,
            "connection_state_changed": self._on_state,
        }
        for event, handler in self._handlers.items():
            room.on(event, handler)

    @property
    def is_interrupted(self) -> bool:
        """Whether nobody is there to answer."""
        return self._interrupted is not None

    def scan(self) -> None:
        """Listens to whoever was there before us: no event tells of them."""
        for participant in self.room.remote_participants.values():
            self._scan(participant)

    async def publish(self) -> None:
        """Publishes the sender's source, and lets it flow."""
        self._track = _rtc.local_track((await self._sender.open()).rtc)
        self._sender.gate.unheard()
        self._publication = await _rtc.publish(self.room, self._track, self._options)
        self._release()

    async def unpublish(self) -> None:
        """Takes the microphone away again, where there is one; bounded."""
        publication, self._publication = self._publication, None
        if publication is not None and self.room.isconnected():
            await _rtc.unpublish(self.room, publication)

    async def unsubscribe(self) -> None:
        """Gives back what we have subscribed to, and waits until that is done.

        What is under way cannot be taken back before it is there: the SDK would forget about it.
        """
        self._unsubscribing = True
        for publication in list(self._subscribed.values()):
            if publication.subscribed:
                self._give_back(publication)
        if self._subscribed and not self.ended.is_set():
            await self._given_back.wait()

    async def settle(self) -> None:
        """Waits, while the SDK reconnects, for the outcome; up to `SETTLE_TIMEOUT`."""
        if self.is_interrupted:
            with anyio.move_on_after(SETTLE_TIMEOUT):
                await self._settled.wait()

    def undo(self) -> None:
        """Lets go of the room's events and of its tracks."""
        for event, handler in self._handlers.items():
            self.room.off(event, handler)
        self._handlers.clear()
        for timer in (*self._waiting.values(), *([self._late] if self._late else [])):
            timer.cancel()
        self._receiver.stop_all()

    def _scan(self, participant: Any) -> None:
        for publication in participant.track_publications.values():
            if publication.track is not None:
                self._on_subscribed(publication.track, publication, participant)
            else:
                self._on_published(publication, participant)

    def _on_published(self, publication: Any, participant: Any) -> None:
        if publication.sid in self._waiting:
            return
        if self._patience:
            loop = asyncio.get_running_loop()
            timer = loop.call_later(self._patience, self._subscribe, publication, participant)
            self._waiting[publication.sid] = timer
        else:
            self._subscribe(publication, participant)

    def _subscribe(self, publication: Any, participant: Any) -> None:
        self._waiting.pop(publication.sid, None)
        unwanted = self._unsubscribing or self._receiver.abandoned.is_set()
        if not unwanted and not publication.subscribed and self._has_room(publication, participant):
            publication.set_subscribed(True)
            self._subscribed[publication.sid] = publication

    def _on_subscribed(self, track: Any, publication: Any, participant: Any) -> None:
        if self._unsubscribing:
            self._give_back(publication)
        elif self._has_room(publication, participant):
            channels = _rtc.heard_channels(publication)
            self._receiver.start(track, publication.sid, participant.identity, channels)

    def _has_room(self, publication: Any, participant: Any) -> bool:
        """Whether a publication is to be heard, and there is room for it; takes the room."""
        if not _rtc.is_heard(publication):
            return False
        heard = self._heard[participant.identity]
        if publication.sid not in heard and len(heard) >= MAX_TRACKS:
            return False
        heard.add(publication.sid)
        return True

    def _give_back(self, publication: Any) -> None:
        if self._disown(publication.sid):
            publication.set_subscribed(False)

    def _disown(self, sid: str) -> bool:
        """No longer counts a subscription as ours; returns whether it was."""
        if self._subscribed.pop(sid, None) is None:
            return False
        if not self._subscribed:
            self._given_back.set()
        return True

    def _on_unsubscribed(self, track: Any, publication: Any, participant: Any) -> None:
        self._forget(publication.sid, participant)

    def _on_failed(self, participant: Any, sid: str) -> None:
        self._forget(sid, participant)

    def _on_unpublished(self, publication: Any, participant: Any) -> None:
        self._forget(publication.sid, participant)
        if len(self._heard[participant.identity]) == MAX_TRACKS - 1:  # somebody may have waited
            self._scan(participant)

    def _on_left(self, participant: Any) -> None:
        for sid in participant.track_publications:
            self._forget(sid, participant)
        self._heard.pop(participant.identity, None)

    def _forget(self, sid: str, participant: Any) -> None:
        self._receiver.stop(sid)
        self._heard[participant.identity].discard(sid)
        self._disown(sid)
        if sid in self._waiting:
            self._waiting.pop(sid).cancel()

    def _on_heard(self, track: Any) -> None:
        if track is self._track:
            self._sender.gate.heard()

    def _on_republished(self, publication: Any) -> None:
        if publication.track is self._track:  # a new track to everybody, who has yet to subscribe
            self._sender.gate.unheard()

    def _on_reconnecting(self) -> None:
        self._interrupted, self._settled = time.monotonic(), anyio.Event()
        self._log.warning("connection lost, reconnecting")
        self._sender.gate.hold()

    def _on_reconnected(self) -> None:
        if self._interrupted is None:
            return
        self._log.info("reconnected after %.1f s", time.monotonic() - self._interrupted)
        self._interrupted = None
        self._settled.set()
        # What was subscribed to while a full reconnect was under way has been lost.
        self.scan()
        self._release()

    def _release(self) -> None:
        """Lets the sender play, if somebody is there to hear it."""
        if self._publication is not None and self._interrupted is None:
            self._sender.gate.release()

    def _on_disconnected(self, reason: Any) -> None:
        self._end(_rtc.reason_of(reason))

    def _end(self, reason: DisconnectReason | None) -> None:
        if not self.ended.is_set():
            self.reason = reason
            self._interrupted = time.monotonic()
            self._sender.gate.hold()
            self.joining.cancel()
            self.ended.set()
            self._settled.set()
            self._given_back.set()

    def _on_state(self, state: Any) -> None:
        if self._late is not None:
            self._late.cancel()
        loop = asyncio.get_running_loop()
        if _rtc.is_over(state):
            self._late = loop.call_later(LATE, self._end, None)
        elif not _rtc.is_away(state):
            self._late = loop.call_later(LATE, self._on_reconnected)
