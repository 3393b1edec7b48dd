"""`TrackReaders`: the open pipelines, and one reader task for each track that they receive."""

import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import aclosing
from typing import Any

import anyio
import numpy as np
from anyio.abc import TaskGroup, TaskStatus

from .._logging import SessionLog
from .._options import ReceiveOptions, SessionOptions
from .._room.state import RoomState, Track
from .._sdk import rtc
from ..audio.format import WIRE_RATE, Samples
from .pipeline import ReceivePipeline
from .plan import ReaderKey, ReceivePlan
from .preconnect import PreconnectAudio


class _Reader:
    """A task that reads one track for several pipelines."""

    def __init__(self, track: Track, pipelines: Sequence[ReceivePipeline]) -> None:
        self.track = track
        self.audio = track.audio
        self.pipelines = pipelines
        self.scope = anyio.CancelScope()


class TrackReaders:
    """Opens and closes receive pipelines, and reads tracks for them as planned.

    A reader never waits for the user. Opening a pipeline, and one that is no longer read, signal
    `room_state.changed`: the coordinator makes a new plan and calls `apply`.
    """

    def __init__(self, options: SessionOptions, room_state: RoomState, log: SessionLog) -> None:
        self.room_state = room_state
        preconnect = PreconnectAudio(log) if options.pre_connect_audio else None
        self.preconnect: PreconnectAudio | None = preconnect
        self._log = log
        self._tasks: TaskGroup | None = None
        self._pipelines: list[ReceivePipeline] = []
        self._readers: dict[ReaderKey, _Reader] = {}
        self._preconnect_done: dict[str, anyio.Event] = {}  # by identity
        self._closed = False
        self._has_hinted = False  # at agents, which the default excludes
        remedy = "read it, close it, or open the session with subscribe=False"
        self.rx: ReceivePipeline = self.open(options, "rx", remedy)
        if not options.subscribe:
            self.close(self.rx)

    async def run(self, *, task_status: TaskStatus[None]) -> None:
        """Run the reader tasks until cancelled."""
        try:
            async with anyio.create_task_group() as self._tasks:
                for pipeline in self._pipelines:
                    self._tasks.start_soon(pipeline.fill_silence)
                task_status.started()
                await anyio.sleep_forever()
        finally:
            self._tasks = None

    def start_soon(self, function: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> None:
        """Start a task that ends with the session."""
        if self._tasks is not None:
            self._tasks.start_soon(function, *args)

    def open(
        self, options: ReceiveOptions, name: str, remedy: str = "read it, or close it"
    ) -> ReceivePipeline:
        """Open a pipeline; once the session has ended, return one that is closed."""
        pipeline = ReceivePipeline(options, self._log, name, remedy)
        if self._closed:
            pipeline.close()
            return pipeline
        self._pipelines.append(pipeline)
        self.start_soon(pipeline.fill_silence)
        self.room_state.changed.set()
        return pipeline

    def close(self, pipeline: ReceivePipeline) -> None:
        """Close a pipeline; its unread frames can still be read."""
        if pipeline in self._pipelines:
            pipeline.close()
            self._pipelines.remove(pipeline)
            self.room_state.changed.set()

    def close_all(self) -> None:
        """Close all pipelines, and each that is opened later."""
        self._closed = True
        while self._pipelines:
            self._pipelines.pop().close()

    def open_pipelines(self) -> Sequence[ReceivePipeline]:
        """Return the pipelines that are read; close the others."""
        for pipeline in [each for each in self._pipelines if not each.is_open]:
            pipeline.close()
            self._pipelines.remove(pipeline)
        return self._pipelines

    def apply(self, target: ReceivePlan) -> None:
        """Start and stop readers, and change their pipelines, as planned."""
        if target.is_without_agents and not self._has_hinted:
            self._has_hinted = True
            self._log.warning(
                "nothing is received: all tracks in the room are agents', which "
                "participants=None excludes; participant_kinds=ParticipantKind receives every kind"
            )
        for key, reader in list(self._readers.items()):
            track = self.room_state.tracks.get(key.sid)
            is_same = track is reader.track and track.audio is reader.audio
            pipelines = target.read.get(key, ()) if is_same else ()
            for pipeline in reader.pipelines:
                if pipeline not in pipelines:
                    pipeline.remove(key.sid)
            reader.pipelines = pipelines
            if not pipelines:
                reader.scope.cancel()
                del self._readers[key]
        for identity in self._preconnect_done.keys() - self.room_state.participants.keys():
            del self._preconnect_done[identity]
        if self._tasks is None:
            return
        for key in target.read.keys() - self._readers.keys():
            track = self.room_state.tracks[key.sid]
            reader = self._readers[key] = _Reader(track, target.read[key])
            self._tasks.start_soon(self._read, reader, key.frame_ms)

    def report_undecryptable(self, track: Track, reason: str) -> None:
        """Log and emit, once for each track, that it is received as silence."""
        if self.room_state.set_undecryptable(track.sid):
            self._log.warning(
                "decrypting track %s of %.80r failed: %s; rx has silence in its place; "
                "open the session with the key: encryption=rtc.E2EEOptions(...)",
                track.sid, track.participant, reason,
            )  # fmt: skip

    async def _read(self, reader: _Reader, frame_ms: int) -> None:
        if reader.scope.cancel_called:  # before the task began: the track may be gone
            return
        track = reader.track
        try:
            with reader.scope:
                frames = rtc.read_track(reader.audio, track.num_channels, frame_ms)
                async with aclosing(frames):
                    await self._push_all(reader, frames)
        except Exception:  # noqa: BLE001 - the other tracks are read on
            self._log.exception("reading track %s of %r failed", track.sid, track.participant)
        for pipeline in reader.pipelines:  # not empty only if the reader has ended by itself
            pipeline.remove(track.sid)

    async def _push_all(self, reader: _Reader, frames: AsyncIterator[Samples]) -> None:
        track = reader.track
        preconnect = self.preconnect if track.has_preconnect_audio else None
        delayed = 0.0  # audio that arrived while pre-connect audio was awaited (s)
        async for samples in frames:
            now = time.monotonic()
            if track.can_decrypt is not None and not track.can_decrypt():
                self.report_undecryptable(track, "the session has no key")
                samples = np.zeros_like(samples)  # noqa: PLW2901 - undecrypted, it is noise
            if preconnect is not None:
                await self._push_preconnect_audio(preconnect, track)
                delayed, preconnect = time.monotonic() - now, None
            for pipeline in reader.pipelines:
                pipeline.push(track, samples, now, separate=delayed > 0)
            delayed -= len(samples) / WIRE_RATE
            if not all(pipeline.is_open for pipeline in reader.pipelines):
                self.room_state.changed.set()

    async def _push_preconnect_audio(self, preconnect: PreconnectAudio, track: Track) -> None:
        """Push a participant's pre-connect audio to each pipeline, once."""
        if (done := self._preconnect_done.get(track.participant)) is not None:
            await done.wait()
            return
        done = self._preconnect_done[track.participant] = anyio.Event()
        try:
            audio = await preconnect.audio_of(track.sid, track.participant)
            for key, reader in self._readers.items():
                for pipeline in reader.pipelines if key.sid == track.sid else ():
                    for samples in audio:
                        pipeline.push(track, samples, time.monotonic(), separate=True)
        finally:
            done.set()
