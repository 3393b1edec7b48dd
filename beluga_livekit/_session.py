"""`LiveKitSession`: what a session's user holds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Unpack

import anyio
import attrs
from anyio.abc import ObjectStream
from anyio.streams.memory import MemoryObjectReceiveStream

from ._errors import ConfigError, DisconnectReason
from ._lifecycle import CLOSED, SessionRunner
from ._options import ParticipantKeywords, ReceiveKeywords, check_names
from ._playout import Playout
from ._receive.participant_streams import ParticipantStream, serve_participants
from ._room.dtmf import GAP, codes_of
from ._room.events import RoomEvent
from ._room.participants import Participant, ParticipantFilter, check_filter, is_selected
from ._sdk import rtc
from ._send.play_source import PlaySource, frames_of
from ._send.send_stream import SendStream
from .audio.format import is_number
from .audio.frame import AudioFrame

__all__ = ["LiveKitSession", "SessionStatistics"]


@attrs.frozen(kw_only=True)
class SessionStatistics:
    """A session's counters, at one moment.

    Attributes:
        frames_received: Frames put into rx, in all.
        seconds_received: Their sound, the silence that fills gaps included.
        frames_dropped: Frames dropped because rx was not read in time.
        seconds_dropped: Their sound.
        seconds_trimmed: Of it, what was shed so that a reader in real time is no longer late.
        seconds_buffered: Sound waiting in rx.
        receive_delay: How late a reader of rx is at this moment, in seconds: with `mix=False` that
            is the sound of the speaker of whom most waits.
        seconds_sent: Sound handed to the SDK, padding included.
        seconds_trimmed_sending: Sound that was shed before that, so that it is in time.
        seconds_queued: Sound waiting in the SDK to be played.
    """

    frames_received: int
    seconds_received: float
    frames_dropped: int
    seconds_dropped: float
    seconds_trimmed: float
    seconds_buffered: float
    receive_delay: float
    seconds_sent: float
    seconds_trimmed_sending: float
    seconds_queued: float


class LiveKitSession(
    tuple[MemoryObjectReceiveStream[AudioFrame], SendStream], ObjectStream[AudioFrame]
):
    """A pair of streams, `rx, tx = session`, and one stream of both directions.

    What arrives and what is sent are `AudioFrame`s. The session is open inside the `async with`
    of `open_livekit`, `attach_room`, `open_loopback` or `LoopbackRoom.open`; later, all of it
    raises `anyio.ClosedResourceError`.
    """

    _runner: SessionRunner

    def __new__(cls, runner: SessionRunner) -> LiveKitSession:
        self = super().__new__(cls, (runner.readers.rx.queue.rx, runner.pump.tx))
        self._runner = runner
        return self

    def __repr__(self) -> str:
        state = "closed" if self._runner.closed else self.disconnect_reason or "open"
        return f"<{type(self).__name__} {state}>"

    @property
    def disconnect_reason(self) -> DisconnectReason | None:
        """Why the session is no longer in its room; None while it is."""
        return self._runner.reason

    @property
    def room(self) -> rtc.Room:
        """The SDK's room: the way to data, text, RPC and video; another one after a rejoin.

        Raises:
            LiveKitError: This is a loopback.
        """
        return self._runner.link.room

    @property
    def rx(self) -> MemoryObjectReceiveStream[AudioFrame]:
        """The received frames."""
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
        return {each.identity: each for each in self._runner.room_state.present()}

    @property
    def local_participant(self) -> Participant:
        """This session's own participant."""
        return self._runner.room_state.me or Participant("", is_self=True)

    def statistics(self) -> SessionStatistics:
        rx, sent = self._runner.readers.rx, self._runner.pump.statistics()
        return SessionStatistics(
            frames_received=rx.frames_received,
            seconds_received=rx.seconds_received,
            frames_dropped=rx.queue.frames_dropped,
            seconds_dropped=rx.queue.seconds_dropped,
            seconds_trimmed=rx.queue.seconds_trimmed,
            seconds_buffered=rx.queue.seconds_buffered,
            receive_delay=rx.queue.delay,
            seconds_sent=sent.seconds,
            seconds_trimmed_sending=sent.seconds_trimmed,
            seconds_queued=sent.seconds_queued,
        )

    async def play(
        self, source: PlaySource, *, sample_rate: int | None = None, num_channels: int = 1
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
            return await self._runner.pump.play(frames)

    async def interrupt(self) -> None:
        """Falls silent at once, with a short fade, and drops all that has not been played.

        That is every frame whose `send` began before this returns, and every `play`; the sends
        return, and each play with how much of it was heard. It takes at most 20 ms; the next frame
        is played at once.

        Raises:
            anyio.ClosedResourceError: The session is closed.
        """
        self._check_open()
        await self._runner.pump.interrupt()

    async def wait_for_playout(self) -> None:
        """Waits until everything that was sent or played before has been played, or interrupted.

        Raises:
            anyio.ClosedResourceError: The session is closed, or may not send.
            DisconnectedError: It ended before everything was played.
        """
        self._check_open()
        await self._runner.pump.wait_for_playout()

    def mute(self) -> None:
        """Mutes our track: what is sent goes on being taken in real time, and nobody hears it.

        Raises:
            anyio.ClosedResourceError: The session is closed, or may not send.
            DisconnectedError: It has ended.
        """
        self._check_sends()
        self._runner.link.mute(True)

    def unmute(self) -> None:
        """Lets our track be heard again.

        Raises:
            anyio.ClosedResourceError: The session is closed, or may not send.
            DisconnectedError: It has ended.
        """
        self._check_sends()
        self._runner.link.mute(False)

    async def send_dtmf(self, digits: str) -> None:
        """Presses keys of a telephone, one after the other.

        Args:
            digits: "0" to "9", "*", "#", "A" to "D".

        Raises:
            ConfigError: Others.
            LiveKitError: The SDK could not send them.
            anyio.ClosedResourceError: The session is closed.
            DisconnectedError: It has ended.
        """
        codes = codes_of(digits)
        for number, (code, digit) in enumerate(codes):
            if number:
                await anyio.sleep(GAP)
            self._check_connected()
            await self._runner.link.press(code, digit)

    def events(self) -> MemoryObjectReceiveStream[RoomEvent]:
        """Returns a stream of what happens in the room: `async with session.events() as events`.

        It begins with who and what is there already, tells what happens from the moment of this
        call, in order, and ends with `Disconnected` where the session does. That somebody has left
        is told when they are not back within a quarter of a second, or within ten after a
        reconnect of ours. Of more than a thousand events that nobody reads the oldest are dropped,
        and one `EventsDropped` says how many.

        Raises:
            anyio.ClosedResourceError: The session is closed.
        """
        self._check_open()
        return self._runner.room_state.events()

    def open_rx(self, **keywords: Unpack[ReceiveKeywords]) -> MemoryObjectReceiveStream[AudioFrame]:
        """Returns another stream of what is heard: `async with session.listen() as frames`.

        It has its own buffer, and is independent of rx: for a recorder beside a transcriber. A
        track that several streams hear is subscribed to and read once.

        Args:
            **keywords: Any of `sample_rate`, `num_channels`, `frame_size`, `receive_buffer`,
                `max_delay`, `participant`, `sources` and `mix`, as for `open_livekit`. What is not
                given is as the session has it.

        Returns:
            A stream as rx is. It ends with the session; closing it is yours to do.

        Raises:
            ConfigError: An argument is wrong.
            anyio.ClosedResourceError: The session is closed.
        """
        self._check_open()
        options = self._runner.options.evolve(**keywords)
        return self._runner.readers.listen(options, "what listen() gave").queue.rx

    async def for_each_participant(
        self,
        handler: Callable[[ParticipantStream], Awaitable[Any]],
        *,
        rejoin_grace: float = 5.0,
        **keywords: Unpack[ParticipantKeywords],
    ) -> None:
        """Calls `handler` with a stream for each wanted participant's track, until the end.

        For those who are there and those to come, each in a task of its own, in one task group: a
        handler that raises ends the others, and leaves this as a task group would. A stream goes on
        through mutes, new tracks and reconnects, with silence; it ends when its participant has
        been away for `rejoin_grace` seconds, or the session ends, and is closed when its handler
        returns.
        One whose handler has returned is served again when they have been away that long, and are
        back. Returns when the session has ended and all handlers have returned; rx goes on beside
        it.

        Args:
            handler: Takes a `ParticipantStream`.
            rejoin_grace: How long somebody who has left may take to come back, in seconds.
            **keywords: As for `listen`, but for `mix`: several tracks that somebody publishes of
                one source are one stream.

        Raises:
            ConfigError: An argument is wrong.
            anyio.ClosedResourceError: The session is closed.
        """
        self._check_open()
        check_names(keywords, ParticipantKeywords.__annotations__.keys())
        if not callable(handler):
            raise TypeError(f"the handler must be callable, got {type(handler).__name__}")
        if not (is_number(rejoin_grace) and rejoin_grace >= 0):
            raise ConfigError(f"rejoin_grace must be 0 or more seconds, got {rejoin_grace!r}")
        options = self._runner.options.evolve(**keywords)
        await serve_participants(self._runner.readers, handler, options, rejoin_grace)

    async def wait_for_participant(self, participants: ParticipantFilter = None) -> Participant:
        """Waits until somebody who is wanted is there, and a phone that is called has answered.

        Args:
            participants: Who, as for `open_livekit`; None: as the session has it.

        Returns:
            The first of them.

        Raises:
            ConfigError: An argument is wrong.
            anyio.ClosedResourceError: The session is closed.
            DisconnectedError: It has ended.
        """
        self._check_open()
        room_state, wanted = self._runner.room_state, self._runner.options.participants
        if participants is not None:
            wanted = check_filter(participants)
        while True:
            self._check_connected()
            for there in room_state.present():
                if there.has_answered and is_selected(there, wanted, None):
                    return there
            await room_state.wait_until_changed()

    async def receive(self) -> AudioFrame:
        """Receives a frame, as `rx.receive()` does."""
        self._check_open()
        return await self.rx.receive()

    async def send(self, item: AudioFrame) -> None:
        """Sends a frame, as `tx.send()` does."""
        self._check_open()
        await self.tx.send(item)

    async def send_eof(self) -> None:
        """Closes tx, as `tx.aclose()` does: the session only receives from there."""
        await self.tx.aclose()

    async def aclose(self) -> None:
        """Plays out what was accepted, leaves the room and closes the streams."""
        await self._runner.leave(play_out=True)

    def _check_sends(self) -> None:
        if self._runner.link.receives_only:
            raise self._runner.why()
        self._check_connected()

    def _check_connected(self) -> None:
        if self._runner.closed or self._runner.room_state.ended:
            raise self._runner.why()

    def _check_open(self) -> None:
        if self._runner.closed:
            raise anyio.ClosedResourceError(CLOSED)
