"""`LiveKitSession`: the object that `async with open_livekit(...)` gives."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Unpack

import anyio
import attrs
from anyio.abc import ObjectStream
from anyio.streams.memory import MemoryObjectReceiveStream

from ._errors import ConfigError, DisconnectReason
from ._lifecycle import CLOSED, SessionRunner
from ._options import ParticipantKeywords, ReceiveKeywords, ReceiveOptions, check_names
from ._playout import Playout
from ._receive.frame_buffer import ReceiveStatistics, ReceiveStream
from ._receive.participant_streams import ParticipantStream, ParticipantStreams
from ._room.dtmf import KEY_INTERVAL, dtmf_codes
from ._room.events import RoomEvent
from ._room.participants import Participant, ParticipantFilter
from ._sdk import rtc
from ._send.play_source import PlaySource, frames_of
from ._send.pump import SendStatistics
from ._send.send_stream import SendStream
from .audio.format import to_number
from .audio.frame import AudioFrame


@attrs.frozen(kw_only=True)
class SessionStatistics:
    """The counters of a session at one moment.

    Attributes:
        receive: Those of rx. Each further stream has its own `counters`.
        send: Those of tx.
    """

    receive: ReceiveStatistics
    send: SendStatistics


class LiveKitSession(tuple[ReceiveStream, SendStream], ObjectStream[AudioFrame]):
    """A pair of streams (`rx, tx = session`), and one stream of both directions.

    Both streams carry `AudioFrame`. The session is open inside the `async with` of `open_livekit`,
    `attach_room`, `open_loopback` or `LoopbackRoom.open`. Afterwards every method raises
    `anyio.ClosedResourceError`.
    """

    _runner: SessionRunner

    def __new__(cls, runner: SessionRunner) -> LiveKitSession:
        self = super().__new__(cls, (runner.readers.rx.buffer.rx, runner.pump.tx))
        self._runner = runner
        return self

    def __repr__(self) -> str:
        state = "closed" if self._runner.is_closed else self.disconnect_reason or "open"
        return f"<{type(self).__name__} {state}>"

    @property
    def rx(self) -> ReceiveStream:
        """The received frames, in the format that the session was opened with.

        A clone shares them: each frame arrives at one of the readers. A second consumer of all
        frames takes `open_rx()`.
        """
        return self[0]

    @property
    def tx(self) -> SendStream:
        """Takes frames of any format, and paces its producer to real time."""
        return self[1]

    @property
    def sample_rate(self) -> int:
        """Sample rate of rx (Hz)."""
        return self._runner.options.sample_rate

    @property
    def num_channels(self) -> int:
        """Number of channels of rx."""
        return self._runner.options.num_channels

    @property
    def participants(self) -> dict[str, Participant]:
        """The remote participants in the room, selected or not, by identity."""
        return {each.identity: each for each in self._runner.room_state.present_participants()}

    @property
    def local_participant(self) -> Participant:
        """This session's own participant."""
        return self._runner.room_state.local_participant

    @property
    def disconnect_reason(self) -> DisconnectReason | None:
        """The reason why the session has left its room; None while it is connected."""
        outcome = self._runner.outcome
        return outcome.reason if outcome is not None else None

    @property
    def room(self) -> rtc.Room:
        """The SDK's room, for data, text, RPC and video. A rejoin replaces it.

        Raises:
            LiveKitError: The session has no server.
        """
        return self._runner.connection.room

    def statistics(self) -> SessionStatistics:
        """Return the counters of rx and tx."""
        return SessionStatistics(receive=self.rx.counters, send=self._runner.pump.statistics())

    async def play(
        self, source: PlaySource, *, sample_rate: int | None = None, num_channels: int = 1
    ) -> Playout:
        """Play a source, such as the output of text-to-speech, and wait until it was played.

        The source is played in one piece, behind everything sent or played before. Later `send()`
        and `play()` calls are queued behind it; a source that awaits one of them deadlocks.
        Cancelling fades out and drops the rest, as `interrupt` does, but only `interrupt` reports
        how much was played. Leaving the session ends the play: await it first to play all of it.

        Args:
            source: An `AudioFrame`, bytes, or an iterable or async iterable of frames or bytes;
                bytes may be cut anywhere. It is closed in any case. Audio that it gave before it
                raised is played. A synchronous iterable other than a sequence may block: it is
                advanced and closed in one thread.
            sample_rate: Sample rate of bytes (Hz); frames carry their own.
            num_channels: Channels of bytes: raw PCM, interleaved little-endian int16. Of a WAV
                file pass what `wave.open(...).readframes` returns, without the header.

        Returns:
            How much was played.

        Raises:
            ConfigError: The format is out of range, or bytes come without a `sample_rate`.
            ValueError: The bytes end within a sample.
            TypeError: The source is, or gives, something else.
            anyio.ClosedResourceError: The session or tx is closed, or must not send.
            DisconnectedError: The session ended before everything was played.
        """
        async with frames_of(source, sample_rate, num_channels) as frames:
            self._check_open()
            return await self._runner.pump.play(frames)

    async def interrupt(self) -> None:
        """Fade out and drop everything that was accepted and not played; takes at most 20 ms.

        That is every frame whose `send` began before this returns, and every `play`: the sends
        return, and each play returns how much of it was played. The next frame plays at once.

        Raises:
            anyio.ClosedResourceError: The session is closed.
        """
        self._check_open()
        await self._runner.pump.interrupt()

    async def wait_for_playout(self) -> None:
        """Wait until everything that was sent or played before was played, or interrupted.

        Raises:
            anyio.ClosedResourceError: The session is closed, or must not send.
            DisconnectedError: The session ended before everything was played.
        """
        self._check_open()
        await self._runner.pump.wait_for_playout()

    def mute(self) -> None:
        """Mute our track. Frames are still taken in real time, and nothing of them is received.

        Raises:
            anyio.ClosedResourceError: The session is closed, or must not send.
            DisconnectedError: The session has ended.
        """
        self._check_publishes()
        self._runner.connection.set_muted(True)

    def unmute(self) -> None:
        """Unmute our track.

        Raises:
            anyio.ClosedResourceError: The session is closed, or must not send.
            DisconnectedError: The session has ended.
        """
        self._check_publishes()
        self._runner.connection.set_muted(False)

    async def send_dtmf(self, digits: str) -> None:
        """Send telephone keys, one after the other.

        Args:
            digits: "0" to "9", "*", "#", "A" to "D".

        Raises:
            ValueError: Any other key.
            LiveKitError: The SDK could not send a key.
            anyio.ClosedResourceError: The session is closed.
            DisconnectedError: The session has ended.
        """
        codes = dtmf_codes(digits)
        for number, (code, digit) in enumerate(codes):
            if number:
                await anyio.sleep(KEY_INTERVAL)
            self._check_connected()
            await self._runner.connection.send_dtmf(code, digit)

    def events(self) -> MemoryObjectReceiveStream[RoomEvent]:
        """Return a new stream of room events: `async with session.events() as events`.

        It begins with the participants and tracks already present, continues in order, and ends
        with `Disconnected`. A participant counts as left when it has not returned within a quarter
        of a second, or within ten after a reconnect of ours. Beyond a thousand unread events the
        oldest are dropped; one `EventsDropped` counts them.

        Raises:
            anyio.ClosedResourceError: The session is closed.
        """
        self._check_open()
        return self._runner.room_state.events()

    def open_rx(self, **keywords: Unpack[ReceiveKeywords]) -> ReceiveStream:
        """Return a further receive stream: `async with session.open_rx() as frames`.

        It copies: it has a buffer and `counters` of its own and receives every frame, whatever rx
        does, for a recorder beside a transcriber. (A clone of rx shares the frames of rx.) A track
        that several streams receive is subscribed to and read once.

        Args:
            **keywords: Keywords of `open_livekit`; those not given are as the session has them.

        Returns:
            A stream that ends with the session. Close it when it is no longer read.

        Raises:
            ConfigError: An argument is wrong.
            anyio.ClosedResourceError: The session is closed.
        """
        self._check_open()
        options = self._runner.options.evolve(**keywords)
        buffer = self._runner.readers.open(options, "the open_rx() stream").buffer
        rx = buffer.rx
        buffer.disown_rx()
        return rx

    async def for_each_participant(
        self,
        handler: Callable[[ParticipantStream], Awaitable[Any]],
        *,
        rejoin_grace: float = 5.0,
        **keywords: Unpack[ParticipantKeywords],
    ) -> None:
        """Call `handler` with a stream for each selected participant's track, until the end.

        Each handler runs in a task of its own, in one task group: one that raises ends the others,
        and its error leaves as from a task group. A handler whose error concerns its participant
        only catches it: `except Exception: log.exception(...)`.

        A stream continues through mutes, new tracks and reconnects, with silence. It ends when its
        participant has been absent for `rejoin_grace`, or with the session, and is closed when its
        handler returns. A participant that returns after that is handled anew. Returns when the
        session has ended and all handlers returned.

        Args:
            handler: Takes a `ParticipantStream`.
            rejoin_grace: Time that an absent participant has to return (s).
            **keywords: Keywords of `open_livekit`; those not given are as the session has them.
                Several tracks of one participant and source are one stream.

        Raises:
            ConfigError: An argument is wrong.
            anyio.ClosedResourceError: The session is closed.
        """
        self._check_open()
        check_names(keywords, ParticipantKeywords.__annotations__)
        if not callable(handler):
            raise TypeError(f"the handler must be callable, got {type(handler).__name__}")
        if (grace := to_number(rejoin_grace)) is None or not grace >= 0:
            raise ConfigError(f"rejoin_grace must be 0 or more seconds, got {rejoin_grace!r}")
        options = self._runner.options.evolve(**keywords)
        await ParticipantStreams(self._runner.readers, handler, options, grace).serve()

    async def wait_for_participant(self, participants: ParticipantFilter = None) -> Participant:
        """Wait until a selected participant is present; a called phone counts once it has answered.

        Args:
            participants: As for `open_livekit`; None: as the session has it.

        Returns:
            The first such participant.

        Raises:
            ConfigError: An argument is wrong.
            anyio.ClosedResourceError: The session is closed.
            DisconnectedError: The session has ended.
        """
        self._check_open()
        await anyio.lowlevel.checkpoint()
        options: ReceiveOptions = self._runner.options
        if participants is not None:
            options = options.evolve(participants=participants)
        while True:
            self._check_connected()
            for participant in self._runner.room_state.present_participants():
                if participant.has_answered and options.selects(participant):
                    return participant
            await self._runner.room_state.changed.wait()

    async def receive(self) -> AudioFrame:
        """Receive a frame, as `rx.receive()` does.

        Raises:
            anyio.EndOfStream: The session has ended. `async for` ends instead.
        """
        self._check_open()
        return await self.rx.receive()

    async def send(self, item: AudioFrame) -> None:
        """Send a frame, as `tx.send()` does."""
        self._check_open()
        await self.tx.send(item)

    async def send_eof(self) -> None:
        """Close tx, as `tx.aclose()` does: from then on the session only receives."""
        await self.tx.aclose()

    async def aclose(self) -> None:
        """Drain what was accepted, leave the room and close the streams."""
        await self._runner.leave(drain=True)

    def _check_publishes(self) -> None:
        if self._runner.connection.receives_only:
            raise self._runner.closed_error()
        self._check_connected()

    def _check_connected(self) -> None:
        if self._runner.has_ended:
            raise self._runner.closed_error()

    def _check_open(self) -> None:
        if self._runner.is_closed:
            raise anyio.ClosedResourceError(CLOSED)
