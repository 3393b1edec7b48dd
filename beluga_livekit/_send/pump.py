"""Send pump: plays tx frames and `play()` requests in FIFO order, paced by the audio source.

Shutdown: `finish` accepts no more input, and `run` returns when the accepted audio was played.
`cancel` discards it. `aclose` closes the audio source. Each of them ends the sends that wait.
"""

from collections.abc import AsyncIterator, Callable, Generator
from contextlib import contextmanager, suppress
from typing import TypeVar

import anyio
import attrs
from anyio.streams.memory import MemoryObjectReceiveStream

from .._errors import LiveKitError
from .._logging import SessionLog
from .._options import SessionOptions
from .._playout import Playout
from .._sdk import rtc
from .._tasks import ChangeSignal, complete
from ..audio.format import WIRE_RATE
from ..audio.frame import AudioFrame
from .gate import PlaybackGate
from .interrupt import SILENCE_TIMEOUT, Epoch, Epochs
from .muted_audio import MutedAudio
from .paced_source import PacedAudioSource
from .playback import Playback, PlaybackState
from .send_stream import SendQueue, SendStream
from .wire_writer import WireWriter

# Pad the end of audio to a whole block only when the SDK's queue holds at most this much (s).
# Padded at once, 3.02 s of 7 ms frames became 4.32 s full of holes.
PAD_AT = 0.003
# Minimum wait for the next frame before padding (s). The queue of a real-time producer is always
# about to run dry.
PATIENCE = 0.03

T = TypeVar("T")


@attrs.frozen
class SendStatistics:
    """Counters of a send pump.

    Attributes:
        seconds: Seconds of audio handed to the SDK, padding included.
        seconds_trimmed: Seconds trimmed so that a real-time producer is no longer late.
        seconds_queued: Seconds waiting in the SDK's queue.
    """

    seconds: float
    seconds_trimmed: float
    seconds_queued: float


class SendPump:
    """Plays frames of `tx` and playbacks in the order in which they were queued.

    `tx` holds no frames: a send returns when the pump takes the frame, and the pump waits for the
    paced source. So a producer is at most one frame and `send_buffer` ahead. A playback waits in
    the same queue, and then has the pump to itself.
    """

    def __init__(
        self,
        options: SessionOptions,
        closed_error: Callable[[], Exception],
        changed: ChangeSignal,
        log: SessionLog,
    ) -> None:
        self._closed_error = closed_error  # makes the exception for a send to an ended session
        self.gate: PlaybackGate = PlaybackGate(options.subscription_timeout, log, changed)
        self.finished: anyio.Event = anyio.Event()  # set when nothing will be played any more
        self.source: PacedAudioSource = PacedAudioSource(options)
        self._epochs = Epochs(self.source, self.finished)
        self._queue = SendQueue(closed_error, lambda: self._epochs.current)
        self.tx: SendStream = self._queue.tx
        self._writer = WireWriter(rtc.wire_channels(options.num_channels), self.gate, self.source)
        self._playbacks: list[Playback] = []
        self._muted = MutedAudio()
        self._cancelled = anyio.CancelScope()
        self._is_drained = False

    def statistics(self) -> SendStatistics:
        return SendStatistics(
            seconds=self._writer.samples_written / WIRE_RATE,
            seconds_trimmed=self._writer.trimmer.samples_trimmed / WIRE_RATE,
            seconds_queued=self.source.seconds_queued,
        )

    @property
    def seconds_unplayed(self) -> float:
        """Audio that was accepted and not played (s)."""
        return (self._writer.end - self.source.position) / WIRE_RATE

    # The track's state, from the connection.

    def set_muted(self, muted: bool) -> None:
        """Note that nothing is received of what is played from now on, or that it is again."""
        position = self.source.position
        starts = [each.start for each in self._playbacks if each.start is not None]
        self._muted.forget(min([position, *starts]))
        self._muted.set_muted(muted, position)

    async def hold(self, since: float, reason: str) -> None:
        """Play nothing more; take back what was played since this time (s of `perf_counter()`)."""
        self.gate.pause(reason)
        await self.source.hold(since)
        self._muted.rewind(self.source.position)

    async def resume(self) -> None:
        """Play on, beginning with what was held, as soon as a participant has subscribed."""
        self.gate.resume()
        await self.gate.wait()
        self.source.release()
        await self.source.flush()

    @property
    def is_refusing(self) -> bool:
        return self._queue.is_refusing

    def refuse(self, refuse: bool) -> None:
        """Let sends and plays fail at once, or no longer."""
        self._queue.is_refusing = refuse

    # The pump's task.

    async def run(self) -> None:
        """Play until tx and its clones are closed or `finish` was called, or until `cancel`."""
        try:
            with self._cancelled:
                while not self._is_drained:
                    await self._run_epoch(self._epochs.current)
        finally:
            self.finish()
            self.finished.set()
            self._epochs.current.idle.set()
            for playback in self._playbacks:
                playback.released.set()

    async def _run_epoch(self, epoch: Epoch) -> None:
        with epoch.scope:
            await self._pump_queue()
            await self._writer.pad()
            await self.source.drain()
            self._is_drained = True
        if epoch.scope.cancel_called:
            self._discard()
            epoch.idle.set()
            await epoch.ended.wait()

    async def _pump_queue(self) -> None:
        while (received := await self._receive(self._queue.items)) is not None:
            item, waited = received
            if isinstance(item, Playback):
                await self._pump_playback(item)
            elif item.epoch is self._epochs.current:
                self._writer.trimmer.observe(item.frame, self.source.seconds_queued, waited=waited)
                await self._writer.write(item.frame)

    async def _pump_playback(self, playback: Playback) -> None:
        if playback.state is not PlaybackState.QUEUED:
            return
        playback.begin(self._writer.end)
        self._writer.trimmer.cancel()
        with playback.pumping:
            while (received := await self._receive(playback.frames, playback)) is not None:
                self._writer.trimmer.reset()
                await self._writer.write(received[0])
        if playback.pumping.cancel_called and playback.given:
            self._discard()
        playback.drain(self._writer.end)

    async def _receive(
        self, items: MemoryObjectReceiveStream[T], playback: Playback | None = None
    ) -> tuple[T, bool] | None:
        """Return the next item, and whether the pump waited for it; None after the last.

        Audio that has ended meanwhile is padded. The padding is no part of the playback.
        """
        try:
            while True:
                with suppress(anyio.WouldBlock):
                    return items.receive_nowait(), False
                if not self._writer.holds_audio:
                    return await items.receive(), True
                with anyio.move_on_after(max(self.source.seconds_queued - PAD_AT, PATIENCE)):
                    return await items.receive(), True
                silence = await self._writer.pad()
                if playback is not None and playback.start is not None:
                    playback.start += silence
        except (anyio.EndOfStream, anyio.ClosedResourceError):
            return None

    def _discard(self) -> None:
        self._writer.discard()
        for playback in self._playbacks:
            playback.clip(self.source.end)

    # The callers' tasks.

    async def play(self, frames: AsyncIterator[AudioFrame] | None) -> Playout:
        """Play frames in one piece; return when they, and earlier audio, have been played."""
        with self._new_playback() as playback:
            try:
                await self._queue.enqueue(playback)
                if frames is not None:
                    async for frame in frames:
                        await playback.send(frame)
                playback.finish()
                await self._wait_until_played(playback)
            except anyio.get_cancelled_exc_class():
                if playback.state is not PlaybackState.DONE:  # cancelled from outside
                    await complete(self._cancel_playback(playback), "cancel playback")
                raise
        return playback.result(self._muted)

    async def wait_for_playout(self) -> None:
        """Wait until earlier sends and plays have been played or interrupted."""
        if not self._queue.is_ended:
            await self.play(None)
            return
        await self.finished.wait()
        if not self._is_drained:
            raise self._closed_error()

    async def interrupt(self) -> None:
        """Silence the audio; drop every frame whose send began before this returns, and every play.

        Bounded by `SILENCE_TIMEOUT`. A cancelled interrupt is completed before this raises.
        """
        try:
            await complete(self._epochs.silence(), "interrupt")
        finally:
            # No await from here to the return: a send that began in it would belong to the next
            # epoch, and be played although the interrupt had not returned.
            position = self._epochs.replace()
            for playback in self._playbacks:
                playback.interrupt(position)
            self._queue.discard()

    def finish(self) -> None:
        self._queue.close()
        for playback in self._playbacks:
            playback.close_input()

    def cancel(self) -> None:
        self.finish()
        self._cancelled.cancel()

    async def aclose(self) -> None:
        self.finish()
        await self.source.aclose()

    @contextmanager
    def _new_playback(self) -> Generator[Playback]:
        """Yield a playback; cancel the block when the playback ends early."""
        playback = Playback(self._closed_error)
        self._playbacks.append(playback)
        try:
            with playback.caller:
                yield playback
        finally:
            self._playbacks.remove(playback)
            playback.close()

    async def _wait_until_played(self, playback: Playback) -> None:
        await playback.released.wait()
        while playback.end is None or self.source.position < playback.end:
            if self.finished.is_set():
                playback.complete(None)
                return
            with anyio.move_on_after(self.source.seconds_until(playback.end or 0)):
                await self.finished.wait()
        playback.complete(playback.given)

    async def _cancel_playback(self, playback: Playback) -> None:
        """Fade out a playback, and nothing else."""
        playback.pumping.cancel()
        if playback.start is None or not playback.given:
            return
        with anyio.move_on_after(SILENCE_TIMEOUT), suppress(LiveKitError):
            await playback.released.wait()
            if playback.end is None or playback.state is PlaybackState.DONE:
                return
            if playback.end == self._writer.end:  # its last samples are held, and none behind them
                self._discard()
            end = playback.end
            cut = await self.source.cut(playback.start, end)
            for other in self._playbacks:
                other.shift(end, cut.moved)
