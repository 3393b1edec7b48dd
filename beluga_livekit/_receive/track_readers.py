"""From tracks to listeners: each wanted track is subscribed to and read once, for all of them."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Coroutine
from contextlib import aclosing
from typing import Any

import anyio
from anyio.abc import TaskGroup, TaskStatus

from .._logging import SessionLog
from .._options import ReceiveOptions, SessionOptions
from .._room.state import RoomState, Track
from .._sdk import rtc
from ..audio.format import WIRE_RATE, Samples
from .pipeline import ReceivePipeline
from .preconnect import PreconnectAudio

__all__ = ["TrackReaders"]

# Of one participant no more tracks than this are heard at a time; people have one microphone. Each
# costs CPU, and with a hundred of them the SDK delivers nobody's sound in time.
MAX_TRACKS = 8


class _Reader:
    """Who hears a track that is being read."""

    def __init__(self) -> None:
        self.stopped = anyio.CancelScope()
        self.listeners: list[ReceivePipeline] = []


class TrackReaders:
    """Has what is wanted of the room_state's tracks subscribed to and read.

    What is done follows from two things, the room state and the listeners: `update` looks
    at both and begins and ends what has to be. A reader never waits for the user.

    Args:
        options: The session's.
        room_state: Who is there.
        log: The session's.
    """

    def __init__(self, options: SessionOptions, room_state: RoomState, log: SessionLog) -> None:
        self.room_state = room_state
        self.preconnect = PreconnectAudio(log) if options.pre_connect_audio else None
        self._log = log
        self._tasks: TaskGroup | None = None
        self._listeners: list[ReceivePipeline] = []
        self._readers: dict[tuple[str, int], _Reader] = {}  # by track SID and milliseconds
        self._introduced: dict[str, anyio.Event] = {}  # whose recordings have been given
        self._closed = False
        self.wanted: Collection[str] = ()
        """The SIDs of the tracks that somebody wants to hear."""
        self.subscribe: Callable[[], None] | None = None
        """Called when that has changed, or whom it is about."""
        self.rx = self.listen(options, "rx")
        room_state.on_change = self.update

    async def run(self, *, task_status: TaskStatus[None]) -> None:
        """Reads until cancelled."""
        try:
            async with anyio.create_task_group() as self._tasks:
                for listener in self._listeners:
                    self._tasks.start_soon(listener.fill_silence)
                task_status.started()
                await anyio.sleep_forever()
        finally:
            self._tasks = None

    def start_soon(self, function: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> None:
        """Starts a task that ends with the session."""
        if self._tasks is not None:
            self._tasks.start_soon(function, *args)

    def listen(self, options: ReceiveOptions, name: str) -> ReceivePipeline:
        """Returns a new listener; once the session has ended, one that has ended."""
        listener = ReceivePipeline(options, self._log, name)
        if self._closed:
            listener.close()
            return listener
        self._listeners.append(listener)
        self.start_soon(listener.fill_silence)
        self.update()
        return listener

    def drop(self, listener: ReceivePipeline) -> None:
        """Ends a listener; what waits in it can still be read."""
        if listener in self._listeners:
            listener.close()
            self._listeners.remove(listener)
            self.update()

    def close(self) -> None:
        """Ends all listeners, those to come too."""
        self._closed = True
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()

    def update(self) -> None:
        """Subscribes to, and reads, what is wanted now, and nothing else."""
        for listener in [each for each in self._listeners if not each.is_open]:
            listener.close()
            self._listeners.remove(listener)
        for identity in self._introduced.keys() - self.room_state.participants.keys():
            del self._introduced[identity]
        wanted = self._wanted()
        self.wanted = wanted.keys()
        if self.subscribe is not None:
            self.subscribe()
        reading: defaultdict[tuple[str, int], list[ReceivePipeline]] = defaultdict(list)
        for sid, listeners in wanted.items():
            if self.room_state.tracks[sid].audio is not None:
                for listener in listeners:
                    reading[sid, listener.frame_ms].append(listener)
        for key, reader in list(self._readers.items()):
            for listener in reader.listeners:
                if listener not in reading.get(key, ()):
                    listener.remove(key[0])
            reader.listeners = reading.get(key, [])
            if not reader.listeners:
                reader.stopped.cancel()
                del self._readers[key]
        for key in reading.keys() - self._readers.keys():
            if self._tasks is not None:
                reader = self._readers[key] = _Reader()
                reader.listeners = reading[key]
                self._tasks.start_soon(self._read, reader, self.room_state.tracks[key[0]], key[1])

    def _wanted(self) -> dict[str, list[ReceivePipeline]]:
        """Returns who wants to hear which tracks, by SID."""
        wanted: defaultdict[str, list[ReceivePipeline]] = defaultdict(list)
        for listener in self._listeners:
            of: Counter[str] = Counter()
            for track in self.room_state.tracks.values():
                participant = self.room_state.participants[track.participant]
                if of[track.participant] < MAX_TRACKS and listener.options.selects(
                    participant, track.source
                ):
                    of[track.participant] += 1
                    wanted[track.sid].append(listener)
        return wanted

    async def _read(self, reader: _Reader, track: Track, wire_ms: int) -> None:
        if reader.stopped.cancel_called:  # before it began: the track may be gone
            return
        try:
            with reader.stopped:
                wire_frames = rtc.read_track(track.audio, track.num_channels, wire_ms)
                async with aclosing(wire_frames):
                    await self._hear(reader, track, wire_frames)
        except Exception:  # noqa: BLE001 - one bad track must not take the others' sound away
            self._log.exception("track %s of %r could not be read", track.sid, track.participant)
        for listener in reader.listeners:  # there are some only if it has ended by itself
            listener.remove(track.sid)

    async def _hear(
        self, reader: _Reader, track: Track, wire_frames: AsyncIterator[Samples]
    ) -> None:
        held_up = 0.0  # seconds of what was said while what was said before was waited for
        introduced = False
        async for samples in wire_frames:
            now = time.monotonic()
            if not introduced and track.has_preconnect_audio and self.preconnect is not None:
                await self._introduce(self.preconnect, track)
                held_up = time.monotonic() - now
            introduced = True
            for listener in reader.listeners:
                listener.push(track, samples, now, separate=held_up > 0)
            held_up -= len(samples) / WIRE_RATE
            if not all(listener.is_open for listener in reader.listeners):
                self.update()

    async def _introduce(self, preconnect: PreconnectAudio, track: Track) -> None:
        """Has all who listen to a participant hear what was said before they could, once."""
        if (given := self._introduced.get(track.participant)) is not None:
            await given.wait()
            return
        given = self._introduced[track.participant] = anyio.Event()
        try:
            sound = await preconnect.audio_of(track.sid, track.participant)
            for (sid, _), reader in self._readers.items():
                for listener in reader.listeners if sid == track.sid else ():
                    for samples in sound:
                        listener.push(track, samples, time.monotonic(), separate=True)
        finally:
            given.set()
