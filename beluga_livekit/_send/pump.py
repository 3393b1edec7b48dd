"""From tx to the track: one pump, in the order in which it was asked, paced by the speaker."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import contextmanager, suppress

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from .._errors import LiveKitError
from .._logging import SessionLog
from .._options import SessionOptions
from .._playout import Playout
from .._sdk import rtc
from .._sdk.audio_source import CAPTURE_TIMEOUT, AudioSource
from .._tasks import complete
from ..audio.converter import Converter
from ..audio.fades import crossfade
from ..audio.format import WIRE_FRAME, WIRE_RATE, Samples
from ..audio.frame import AudioFrame
from ..audio.framing import Framer
from .gate import PlaybackGate
from .paced_source import STEP, STEP_SECONDS, PacedAudioSource
from .playback import Playback, QueuedFrame
from .send_stream import SendStream

__all__ = ["SendPump"]

# What is left of a sound is padded to a whole step only when the SDK's queue has at most this
# much left: padded at once, 3.02 s of 7 ms frames became 4.32 s full of holes.
PAD_AT = 0.003
# ... and not before a producer in real time, whose queue is always about to run dry, has had this
# much time for its next frame.
PATIENCE = 0.03
# A producer that the pump had to wait for all of this time, in seconds, is in real time; and so is
# one that sends on what was heard: those frames say when that was. What the SDK's queue never fell
# below meanwhile is only late, and all of it but this much is shed.
STANDING = 1.0
KEEP = 0.005

# The longest that falling silent may take; it takes 1 to 20 ms.
SILENCE_TIMEOUT = 2 * CAPTURE_TIMEOUT


class SendPump:
    """Plays what is sent to `tx`, and what is given to `play`, in the order in which it came.

    `tx` holds no frames: a send returns when the pump takes the frame, and the pump waits for the
    speaker, so a producer is never further ahead than one frame and `send_buffer`. A play waits in
    the same line for its turn, and then has the pump to itself.

    Args:
        options: The session's.
        why: Returns what a send to an ended session raises.
        log: The session's.
    """

    def __init__(
        self, options: SessionOptions, why: Callable[[], Exception], log: SessionLog
    ) -> None:
        self._why = why
        self.gate = PlaybackGate(options.subscription_timeout, log)
        send, self._accept = anyio.create_memory_object_stream[QueuedFrame | Playback](0)
        self._line = send._state  # noqa: SLF001 - a subclass has no other way in
        self.tx = SendStream(self._line, why, lambda: self._interrupts_over)
        send.close()
        self._converter = Converter(WIRE_RATE, rtc.wire_channels(options.num_channels))
        self._framer = Framer(WIRE_FRAME)
        self._speaker = PacedAudioSource(options)
        self._relays = False  # what was heard is sent on
        self._starved_since: float | None = None  # time.monotonic()
        self._standing = 0.0  # seconds: the least that was in the speaker's queue since
        self._shorten = 0  # steps to be shed
        self._sent = 0  # samples per channel
        self._shed = 0
        self._turns: list[Playback] = []
        self._turn: Playback | None = None  # the one whose turn it is
        self._stopped = anyio.CancelScope()
        self._round = anyio.CancelScope()  # the pump's work until the next interrupt
        self._interrupts = 0  # under way
        self._interrupts_over = 0
        self._silent = anyio.Event()  # the pump has nothing in hand and waits for `_resumed`
        self._resumed = anyio.Event()
        self._played_out = False
        self.muted = False
        """Whether what is played is to be muted, in this room and the next."""
        self.over = anyio.Event()
        """Set when nothing will be played any more."""

    @property
    def seconds_sent(self) -> float:
        return self._sent / WIRE_RATE

    @property
    def seconds_trimmed(self) -> float:
        return self._shed / WIRE_RATE

    @property
    def seconds_queued(self) -> float:
        return self._speaker.seconds_queued

    @property
    def seconds_idle(self) -> float:
        """For how long there has been nothing to play."""
        return self._speaker.seconds_idle

    async def open(self) -> AudioSource:
        """Returns the SDK's end, to be published."""
        return await self._speaker.open()

    async def run(self) -> None:
        """Plays until tx and its clones are closed or `finish` was called, or `stop`."""
        try:
            with self._stopped:
                while not self._played_out:
                    with self._round:
                        await self._play_all()
                        self._played_out = True
                    if self._round.cancel_called:
                        await self._be_silent()
        finally:
            self.finish()
            self._silent.set()
            self.over.set()
            for turn in self._turns:
                turn.over.set()

    async def _play_all(self) -> None:
        await self._play_from(self._accept)
        await self._pad()
        await anyio.sleep(self._speaker.seconds_queued)

    async def _play_from(self, line: MemoryObjectReceiveStream[QueuedFrame | Playback]) -> None:
        while (item := await self._next(line)) is not None:
            if isinstance(item, Playback):
                await self._play_turn(item)
            elif item.interrupts == self._interrupts_over:
                await self._play_frame(item.frame)

    async def _play_turn(self, turn: Playback) -> None:
        self._turn, turn.start, self._shorten = turn, self._ahead(), 0
        with turn.playing:
            await self._play_from(turn.frames)
        if turn.playing.cancel_called and turn.given:
            self._drop()
        self._turn, turn.end = None, self._ahead()
        turn.over.set()

    async def _play_frame(self, frame: AudioFrame) -> None:
        samples, second = frame.samples, frame.sample_rate
        for at in range(0, len(samples), second):
            sound = self._converter.push(samples[at : at + second], frame.sample_rate)
            await self._play(self._framer.push(sound))
        if self._framer.held >= STEP and not self._shorten:
            rest = self._framer.take()
            await self._play([rest[:STEP]])
            self._framer.push(rest[STEP:])

    async def play(self, frames: AsyncIterator[AudioFrame]) -> Playout:
        """Plays frames, all in one turn.

        Raises:
            anyio.ClosedResourceError: Nothing can be sent any more.
            DisconnectedError: The session ended before all was played.
        """
        with self._place() as turn:
            try:
                await self._line_up(turn)
                async for frame in frames:
                    await turn.send(frame)
                turn.finish()
                await self._until_played(turn)
            except anyio.get_cancelled_exc_class():
                if not turn.waiting.cancel_called:
                    await complete(self._withdraw(turn), "withdraw")
                raise
        if turn.interrupted_at is not None:
            played = self._played(turn, turn.interrupted_at)
            return Playout(played, turn.given - played, interrupted=True)
        if not turn.complete:
            raise self._why()
        return Playout(turn.given, 0.0, interrupted=False)

    async def wait_for_playout(self) -> None:
        """Waits until all that was sent or played before has been played.

        Raises:
            DisconnectedError: The session ended before.
        """
        if self._accept.statistics().open_send_streams == 0:
            await self.over.wait()
            if not self._played_out:
                raise self._why()
            return
        with self._place() as turn:
            await self._line_up(turn)
            turn.finish()
            await self._until_played(turn)
        if not turn.complete and turn.interrupted_at is None:
            raise self._why()

    async def interrupt(self) -> None:
        """Falls silent: what was sent and what is played before this returns is dropped."""
        if not self._interrupts:
            self._resumed = anyio.Event()
        self._interrupts += 1
        at = self._speaker.position
        self._round.cancel()
        try:
            at = await complete(self._fall_silent(at), "interrupt")
        finally:  # without another await: what is sent from here on is played
            self._interrupts -= 1
            self._interrupts_over += 1
            for turn in self._turns:
                turn.interrupt(at)
            with suppress(anyio.WouldBlock, anyio.EndOfStream, anyio.ClosedResourceError):
                while True:  # those who wait in line
                    self._accept.receive_nowait()
            if not self._interrupts:
                self._resumed.set()

    async def _fall_silent(self, at: int) -> int:
        with anyio.move_on_after(SILENCE_TIMEOUT):
            at, _ = await self._speaker.cut()
            await self._silent.wait()
        return at

    def finish(self) -> None:
        """Accepts nothing more; `run` returns when what was accepted has been played."""
        self._accept.close()
        for turn in self._turns:
            turn.refuse()

    def stop(self) -> None:
        """Accepts nothing more, and drops what was accepted: there is nowhere to play it."""
        self.finish()
        self._stopped.cancel()

    async def aclose(self) -> None:
        self.finish()
        await self._speaker.aclose()

    @contextmanager
    def _place(self) -> Generator[Playback]:
        """Gives a turn that is yet to be lined up; an interrupt ends the block."""
        turn = Playback(self._why, self._interrupts_over)
        self._turns.append(turn)
        try:
            with turn.waiting:
                yield turn
        finally:
            self._turns.remove(turn)
            turn.close()

    async def _line_up(self, turn: Playback) -> None:
        """Returns when the turn has come."""
        if self._accept.statistics().open_send_streams == 0:
            raise anyio.ClosedResourceError("livekit: tx is closed")
        # Open while it waits only, so that it never is what keeps tx from being closed.
        with MemoryObjectSendStream[QueuedFrame | Playback](self._line) as line:
            try:
                await line.send(turn)
            except anyio.BrokenResourceError:
                raise self._why() from None

    async def _until_played(self, turn: Playback) -> None:
        await turn.over.wait()
        while turn.end is None or self._speaker.position < turn.end:
            if self.over.is_set():
                raise self._why()
            with anyio.move_on_after(self._speaker.seconds_until(turn.end or 0)):
                await self.over.wait()

    async def _withdraw(self, turn: Playback) -> None:
        """Silences a play that was cancelled, and nothing else."""
        turn.playing.cancel()
        if turn.start is None or not turn.given:
            return
        with anyio.move_on_after(SILENCE_TIMEOUT), suppress(LiveKitError):
            await turn.over.wait()
            if turn.end is None or turn.interrupted_at is not None:
                return
            if turn.end == self._ahead():  # the last of it is still here, and nothing after it
                self._drop()
            _, moved = await self._speaker.cut(turn.start, turn.end)
            for other in self._turns:
                other.shift(turn.end, moved)

    def _played(self, turn: Playback, position: int) -> float:
        """Returns how much of a turn had been played when the sound had come this far."""
        if turn.start is None:
            return 0.0
        end = position if turn.end is None else min(turn.end, position)
        return min(max(0.0, (end - turn.start) / WIRE_RATE), turn.given)

    async def _be_silent(self) -> None:
        """Has nothing in hand, until all interrupts are over."""
        self._drop()
        self._round = anyio.CancelScope()
        self._silent.set()
        while self._interrupts:
            await self._resumed.wait()
        self._silent = anyio.Event()

    def _drop(self) -> None:
        """Drops what has not been handed to the speaker."""
        self._converter.finish()
        self._framer.drop()
        self._turn, self._shorten = None, 0
        for turn in self._turns:
            if turn.end is not None:
                turn.end = min(turn.end, self._speaker.end)

    def _ahead(self) -> int:
        """Returns the position at which the sound that comes next will be."""
        inside = self._framer.held + round(self._converter.delay * WIRE_RATE)
        return self._speaker.end + inside

    async def _next(
        self, line: MemoryObjectReceiveStream[QueuedFrame | Playback]
    ) -> QueuedFrame | Playback | None:
        """Returns what comes next, or None after the last; pads a sound that has ended."""
        try:
            while True:
                with suppress(anyio.WouldBlock):
                    return self._take(line.receive_nowait(), waited=False)
                if not (self._converter.holds_sound or self._framer.held):
                    return self._take(await line.receive(), waited=True)
                patience = max(self._speaker.seconds_queued - PAD_AT, PATIENCE)
                with anyio.move_on_after(patience):
                    return self._take(await line.receive(), waited=True)
                await self._pad()
        except (anyio.EndOfStream, anyio.ClosedResourceError):
            return None

    def _take(self, item: QueuedFrame | Playback, *, waited: bool) -> QueuedFrame | Playback:
        if isinstance(item, QueuedFrame):
            self._relays = item.frame.timestamp is not None and self._turn is None
            if self._relays or (waited and self._turn is None):
                self._heal()
            else:
                self._starved_since = None
        return item

    def _heal(self) -> None:
        """Notes how much is queued before the next frame of a producer in real time."""
        now, queued = time.monotonic(), self._speaker.seconds_queued
        if self._starved_since is None:
            self._starved_since, self._standing = now, queued
        self._standing = min(self._standing, queued)
        if now - self._starved_since >= STANDING:
            self._shorten = max(0, int((self._standing - KEEP) / STEP_SECONDS))
            self._starved_since = None

    async def _pad(self) -> None:
        """Plays what is left of a sound that has ended, up to a whole step."""
        silence = round(self._converter.delay * WIRE_RATE)  # before what comes next
        await self._play(self._framer.push(self._converter.finish()))
        silence += -self._framer.held % STEP
        if self._turn is not None and self._turn.start is not None:
            self._turn.start += silence  # which is no part of it
        if self._framer.held:
            await self._play([self._framer.take(STEP)])

    async def _play(self, cuts: list[Samples]) -> None:
        for samples in cuts:
            await self.gate.wait()
            if self._shorten and len(samples) == 2 * STEP:
                self._shorten -= 1
                self._shed += STEP
                samples = crossfade(samples[:STEP], samples[STEP:])  # noqa: PLW2901
            await self._speaker.play(samples, at_once=self._relays)
            self._sent += len(samples)
