"""`ParticipantStreams`: one stream and one handler task for each participant's track source."""

from collections.abc import Awaitable, Callable
from functools import partial
from inspect import isawaitable
from typing import Any

import anyio
import attrs
from anyio.abc import ObjectReceiveStream, TaskGroup

from .._logging import MAX_NAME
from .._options import ReceiveOptions
from .._room.participants import Participant, TrackSource
from .._tasks import GraceTimers
from ..audio.frame import AudioFrame
from .frame_buffer import ReceiveStatistics
from .pipeline import ReceivePipeline
from .track_readers import TrackReaders

_Key = tuple[str, TrackSource]  # identity and source


class ParticipantStream(ObjectReceiveStream[AudioFrame]):
    """The audio of one participant, through mutes, new tracks and lost connections.

    Attributes:
        participant: The participant, kept up to date.
        source: Microphone or screen share.
    """

    def __init__(
        self, pipeline: ReceivePipeline, participant: Participant, source: TrackSource
    ) -> None:
        self._rx = pipeline.buffer.rx
        self.participant = participant
        self.source = source

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.source} of {self.participant.identity!r}>"

    @property
    def counters(self) -> ReceiveStatistics:
        """The counters of this stream; they stay when it is closed."""
        return self._rx.counters

    async def receive(self) -> AudioFrame:
        """Receive a frame.

        Raises:
            anyio.EndOfStream: The participant has left for good, or the session has ended.
            anyio.ClosedResourceError: This stream is closed.
        """
        return await self._rx.receive()

    async def aclose(self) -> None:
        self._rx.close()


@attrs.define
class ParticipantStreams:
    """The streams that have a handler, or whose participant has not left since it returned."""

    _readers: TrackReaders
    _handler: Callable[[ParticipantStream], Awaitable[Any]]
    _options: ReceiveOptions
    _rejoin_grace: float
    _timers: GraceTimers = attrs.field(factory=GraceTimers)  # until an absent one's stream ends
    _served: dict[_Key, tuple[ReceivePipeline, ParticipantStream]] = attrs.field(factory=dict)

    async def serve(self) -> None:
        """Run the handler for each selected participant's track source, until the session ends."""
        async with anyio.create_task_group() as tasks:
            try:
                while not self._readers.room_state.is_disconnected:
                    self._open_new(tasks)
                    self._close_departed()
                    await self._readers.room_state.changed.wait()
            finally:
                self._timers.cancel_all()

    def _open_new(self, tasks: TaskGroup) -> None:
        """Open a stream for each selected track source that has none."""
        for track in list(self._readers.room_state.tracks.values()):
            participant = self._readers.room_state.participants[track.participant]
            key = (participant.identity, track.source)
            if key in self._served or not self._options.selects(participant, track.source):
                continue
            options = self._options.evolve(participants=key[0], sources=key[1], mix=True)
            pipeline = self._readers.open(options, f"the stream of {key[0][:MAX_NAME]!r}")
            stream = ParticipantStream(pipeline, participant, track.source)
            self._served[key] = pipeline, stream
            tasks.start_soon(self._handle, pipeline, stream)

    def _close_departed(self) -> None:
        """Close the streams of participants that are not selected, or absent for too long."""
        for key, (_, stream) in list(self._served.items()):
            participant = self._readers.room_state.participants.get(key[0])
            if participant is None:
                if key not in self._timers:
                    self._timers.start(key, self._rejoin_grace, partial(self._close, key))
                continue
            self._timers.cancel(key)
            if self._options.selects(participant):
                stream.participant = participant
            else:
                self._close(key)

    def _close(self, key: _Key) -> None:
        self._readers.close(self._served.pop(key)[0])

    async def _handle(self, pipeline: ReceivePipeline, stream: ParticipantStream) -> None:
        try:
            async with stream:
                handling = self._handler(stream)
                if not isawaitable(handling):
                    raise TypeError(f"the handler {self._handler!r} must be async")
                await handling
        finally:
            self._readers.close(pipeline)
