"""`Microphone`: our published track, in one room after another."""

from .._options import SessionOptions
from .._sdk import rtc
from .._send.pump import SendPump


class Microphone:
    """Publishes the pump's audio source, and keeps it muted or not in each room."""

    def __init__(self, pump: SendPump, options: SessionOptions) -> None:
        self.muted = False  # in this room and the next
        self._pump = pump
        self._options = options
        self._track: rtc.LocalTrack | None = None
        self._publication: rtc.Publication | None = None

    @property
    def is_published(self) -> bool:
        return self._publication is not None

    def owns(self, track: object) -> bool:
        """Return whether this is our track in the current room."""
        return track is not None and track is self._track

    async def publish(self, room: rtc.Room) -> None:
        """Publish a new track in a room; ConnectError if the server refuses it."""
        self._track = rtc.local_track((await self._pump.source.open()).rtc)
        self._pump.gate.unsubscribed()
        self._publication = await rtc.publish(room, self._track, self._options)
        self.apply_mute()

    def set_muted(self, muted: bool) -> None:
        self.muted = muted
        self.apply_mute()

    def apply_mute(self) -> None:
        if self._track is not None and self._track.muted != self.muted:
            (self._track.mute if self.muted else self._track.unmute)()

    async def unpublish(self, room: rtc.Room) -> None:
        """Unpublish the track, if there is one; bounded."""
        publication, self._publication = self._publication, None
        if publication is not None and room.isconnected():
            await rtc.unpublish(room, publication)
