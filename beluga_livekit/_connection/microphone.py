"""`Microphone`: our published track, in one room after another."""

from enum import Enum, auto

import anyio

from .._errors import ConnectError
from .._options import SessionOptions
from .._sdk import rtc
from .base import SessionParts
from .first_subscriber import FirstSubscriber
from .media_watch import MediaWatch

# Timeout for publishing again (s). It takes a round trip, but the SDK does not bound it.
PUBLISH_TIMEOUT = 10.0


class _Link(Enum):
    """The state of the room's connection."""

    CONNECTED = auto()
    RECONNECTING = auto()  # signalling is down; media may be up
    ENDED = auto()


class Microphone:
    """Publishes the pump's audio source, keeps it muted or not, and holds audio that would be lost.

    Audio is held while media is down, and while publishing is not permitted. A reconnect of
    signalling alone leaves media up, and holds nothing.
    """

    def __init__(self, options: SessionOptions, parts: SessionParts, *, restricts: bool) -> None:
        self.muted = False  # in this room and the next
        self.first_subscriber = FirstSubscriber(
            options, parts.room_state, parts.pump.gate, restricts=restricts
        )
        self._options = options
        self._parts = parts
        self._room: rtc.Room | None = None
        self._track: rtc.LocalTrack | None = None
        self._publication: rtc.Publication | None = None
        self._is_current = False  # whether the publication is as the server has it
        self._is_permitted = True
        self._link = _Link.CONNECTED
        self._watch = MediaWatch(parts.room_state.changed)
        self._publishing = anyio.CancelScope()

    @property
    def _is_up(self) -> bool:
        return self._link is _Link.CONNECTED and self._is_permitted and self._is_current

    def owns(self, track: object) -> bool:
        """Return whether this is our track in the current room."""
        return track is not None and track is self._track

    async def publish(self, room: rtc.Room) -> None:
        """Publish a new track in a room; ConnectError if the server refuses it."""
        source = await self._parts.pump.source.open()
        self.first_subscriber.begin(room, restrict=room is not self._room)
        self._room, self._track = room, rtc.local_track(source.rtc)
        self._publication = await rtc.publish(room, self._track, self._options)
        # Not before: `run` would publish at the same time.
        self._link, self._is_permitted, self._is_current = _Link.CONNECTED, True, True
        self.apply_mute()
        self._parts.pump.refuse(False)
        self._parts.room_state.changed.set()

    def refuse(self, room: rtc.Room) -> None:
        """Let sends fail: the token does not permit to publish, and the server may later."""
        self._parts.pump.refuse(True)
        self._room, self._link = room, _Link.CONNECTED
        self._is_permitted, self._is_current = False, False
        self._watch.suspect()

    async def unpublish(self, room: rtc.Room) -> None:
        """Unpublish the track, if there is one; bounded."""
        publication, self._publication = self._publication, None
        if publication is not None and room.isconnected():
            await rtc.unpublish(room, publication)

    def set_muted(self, muted: bool) -> None:
        self.muted = muted
        self.apply_mute()

    def apply_mute(self) -> None:
        self._parts.pump.set_muted(self.muted)
        # The SDK does not send the mute of a track that is being published.
        if self._track is not None and self._is_current and self._track.muted != self.muted:
            (self._track.mute if self.muted else self._track.unmute)()

    # Events of the room.

    def muted_by_server(self, muted: bool) -> None:
        self.muted = muted
        self._parts.pump.set_muted(muted)

    def republished(self) -> None:
        """Note that the SDK has published the track anew: it has no subscriber yet."""
        self.first_subscriber.begin(self._room, restrict=False)
        self.apply_mute()

    def unpublished(self, publication: rtc.Publication) -> None:
        """Note that the server has unpublished a track: publish ours again."""
        if self._publication is not None and publication.sid == self._publication.sid:
            self._publication, self._is_current = None, False
            self._watch.suspect()

    def set_permitted(self, permitted: bool) -> None:
        """Note whether the session may publish; what it has published is gone if it may not."""
        if permitted != self._is_permitted:
            self._is_permitted = permitted
            if not permitted:
                self._is_current = False
                self._parts.log.warning("publishing is not permitted; sends wait for the grant")
            self._watch.suspect()

    def set_reconnecting(self, reconnecting: bool) -> None:
        self._link = _Link.RECONNECTING if reconnecting else _Link.CONNECTED
        self._watch.suspect()

    def end(self) -> None:
        """Note that the room is over: media is down."""
        self._link, self._is_current = _Link.ENDED, False
        self._publishing.cancel()
        self._parts.pump.gate.pause(self._reason)
        self._watch.suspect()

    # The task.

    async def run(self) -> None:
        """Hold audio while it would be lost, and publish again."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.first_subscriber.run)
            while True:
                if self._track is not None and self._is_up:
                    await self._watch.update(self._track)
                while self._is_up:
                    await self._parts.room_state.changed.wait()
                loss = await self._watch.find_loss(self._track, self._may_be_up)
                if loss is None and self._is_up:
                    continue
                loss = loss or self._watch.loss
                await self._parts.pump.hold(loss.since, self._reason)
                if not loss.is_over:
                    await self._restore()
                tasks.start_soon(self._parts.pump.resume)

    def _may_be_up(self) -> bool:
        return self._link is _Link.RECONNECTING and self._is_permitted and self._is_current

    async def _restore(self) -> None:
        """Wait until media is up, and publish again where the track is gone."""
        while not self._is_up:
            room = self._room
            is_wanted = self._options.publish and not self._parts.pump.finished.is_set()
            is_connected = self._link is _Link.CONNECTED and self._is_permitted
            if room is not None and is_connected and is_wanted:
                await self._publish_again(room)
            else:
                await self._parts.room_state.changed.wait()

    async def _publish_again(self, room: rtc.Room) -> None:
        await self.unpublish(room)
        error = f"no answer within {PUBLISH_TIMEOUT:g} s"
        with anyio.move_on_after(PUBLISH_TIMEOUT) as self._publishing:
            try:
                await self.publish(room)
            except ConnectError as failed:
                error = str(failed)
        if self._is_current:
            self._parts.log.info("published again")
        elif self._link is _Link.CONNECTED:
            self._parts.log.warning("publishing again failed: %s; waiting for a change", error)
            await self._parts.room_state.changed.wait()

    @property
    def _reason(self) -> str:
        return "the connection is lost" if self._is_permitted else "publishing is not permitted"
