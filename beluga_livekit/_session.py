"""`LiveKitSession`: what a session's user holds."""

from __future__ import annotations

import anyio
import attrs
from anyio.abc import ObjectStream
from anyio.streams.memory import MemoryObjectReceiveStream

from . import _rtc
from ._background import CLOSED, Background
from ._errors import DisconnectReason
from ._frame import AudioFrame
from ._playout import Playable, Playout, frames_of
from ._tx import SendStream

__all__ = ["LiveKitSession", "SessionStatistics"]


@attrs.frozen(kw_only=True)
class SessionStatistics:
    """A session's counters, at one moment.

    Attributes:
        frames_received: Frames put into rx, in all.
        seconds_received: Their sound, the silence that fills gaps included.
        frames_dropped: Frames dropped because rx was not read in time.
        seconds_dropped: Their sound.
        seconds_shed: Of it, what was shed so that a reader in real time is no longer late.
        seconds_waiting: Sound waiting in rx, of all tracks.
        receive_delay: Sound waiting in rx, in seconds, of the track of which most does: how late
            a reader is at this moment.
        seconds_sent: Sound handed to the SDK, padding included.
        seconds_shed_sending: Sound that was shed before that, so that a producer in real time is no
            longer late.
        seconds_queued: Sound waiting in the SDK to be played.
    """

    frames_received: int
    seconds_received: float
    frames_dropped: int
    seconds_dropped: float
    seconds_shed: float
    seconds_waiting: float
    receive_delay: float
    seconds_sent: float
    seconds_shed_sending: float
    seconds_queued: float


class LiveKitSession(
    tuple[MemoryObjectReceiveStream[AudioFrame], SendStream], ObjectStream[AudioFrame]
):
    """A pair of streams, `rx, tx = session`, and one stream of both directions.

    What arrives and what is sent are `AudioFrame`s. The session is open inside the `async with`
    of `open_livekit` or `open_loopback`; later, all of it raises `anyio.ClosedResourceError`.
    """

    _background: Background

    def __new__(cls, background: Background) -> LiveKitSession:
        self = super().__new__(cls, (background.receiver.queue.rx, background.sender.tx))
        self._background = background
        return self

    def __repr__(self) -> str:
        state = "closed" if self._background.closed else self.disconnect_reason or "open"
        return f"<{type(self).__name__} {state}>"

    @property
    def disconnect_reason(self) -> DisconnectReason | None:
        """Why the session is no longer in its room; None while it is."""
        return self._background.reason

    @property
    def room(self) -> _rtc.Room:
        """The SDK's room: the way to data, text, RPC and video; another one after a rejoin.

        Raises:
            LiveKitError: This is a loopback.
        """
        return self._background.link.room

    @property
    def format(self) -> tuple[int, int]:
        """The sample rate (Hz) and the number of channels of the received frames."""
        return self._background.options.sample_rate, self._background.options.num_channels

    def statistics(self) -> SessionStatistics:
        """Returns the counters of this moment; they stay readable after the session."""
        receiver, sender = self._background.receiver, self._background.sender
        return SessionStatistics(
            frames_received=receiver.frames_received,
            seconds_received=receiver.seconds_received,
            frames_dropped=receiver.queue.frames_dropped,
            seconds_dropped=receiver.queue.seconds_dropped,
            seconds_shed=receiver.queue.seconds_shed,
            seconds_waiting=receiver.queue.seconds_waiting,
            receive_delay=receiver.queue.delay,
            seconds_sent=sender.seconds_sent,
            seconds_shed_sending=sender.seconds_shed,
            seconds_queued=sender.seconds_queued,
        )

    async def play(
        self, source: Playable, *, sample_rate: int | None = None, num_channels: int = 1
    ) -> Playout:
        """Plays a source, such as what text-to-speech returns, and waits until it was played.

        It is played in one piece, after all that was sent or played before; what is sent or played
        meanwhile comes after it, by whomever (a source that waits for that waits for itself).
        Cancelled, it falls silent as it does by `interrupt`, but only that tells how much was
        heard. Leaving the session ends it: wait for it before, if all of it is to be heard.

        Args:
            source: An `AudioFrame`, or bytes; or an iterable or async iterable of frames or of
                bytes, cut anywhere. It is closed, whatever happens; what it gave before it raised
                is played. An ordinary iterable is read in the event loop, so it must not block.
            sample_rate: Of the bytes, in Hz; frames know theirs.
            num_channels: Of the bytes, which are raw PCM: interleaved little-endian int16. (Of a
                WAV file take what `wave.open(...).readframes` gives, not its header.)

        Returns:
            How much of it was played: of what an agent was saying, what its user has heard.

        Raises:
            ConfigError: A format out of range; bytes without a `sample_rate`, or that end within a
                sample.
            TypeError: The source is, or gives, something else.
            anyio.ClosedResourceError: The session, or tx, is closed, or may not send.
            DisconnectedError: The session ended before everything was played.
        """
        async with frames_of(source, sample_rate, num_channels) as frames:
            self._check_open()
            return await self._background.sender.play(frames)

    async def interrupt(self) -> None:
        """Falls silent at once, with a short fade, and drops all that has not been played.

        That is every frame whose `send` began before this returns, and every `play`; the sends
        return, and each play with how much of it was heard. It takes at most 20 ms; the next frame
        is played at once.

        Raises:
            anyio.ClosedResourceError: The session is closed.
        """
        self._check_open()
        await self._background.sender.interrupt()

    async def wait_for_playout(self) -> None:
        """Waits until everything that was sent or played before has been played, or interrupted.

        Raises:
            anyio.ClosedResourceError: The session is closed, or may not send.
            DisconnectedError: It ended before everything was played.
        """
        self._check_open()
        await self._background.sender.wait_for_playout()

    async def receive(self) -> AudioFrame:
        """Receives a frame, as `rx.receive()` does."""
        self._check_open()
        return await self[0].receive()

    async def send(self, item: AudioFrame) -> None:
        """Sends a frame, as `tx.send()` does."""
        self._check_open()
        await self[1].send(item)

    async def send_eof(self) -> None:
        """Closes tx, as `tx.aclose()` does: the session only receives from there."""
        await self[1].aclose()

    async def aclose(self) -> None:
        """Plays out what was accepted, leaves the room and closes the streams."""
        await self._background.leave(play_out=True)

    def _check_open(self) -> None:
        if self._background.closed:
            raise anyio.ClosedResourceError(CLOSED)
