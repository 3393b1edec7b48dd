"""`serve_participants`: a stream for each participant's track, and a task for each stream."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import Any

import anyio
from anyio.abc import ObjectReceiveStream

from .._logging import MAX_NAME
from .._options import ReceiveOptions
from .._room.participants import Participant, TrackSource
from ..audio.frame import AudioFrame
from .pipeline import ReceivePipeline
from .track_readers import TrackReaders

__all__ = ["ParticipantStream", "serve_participants"]


class ParticipantStream(ObjectReceiveStream[AudioFrame]):
    """What one participant says, through mutes, new tracks and lost connections.

    Attributes:
        participant: Whose, as of now.
        source: A microphone, or a shared screen.
    """

    def __init__(
        self, listener: ReceivePipeline, participant: Participant, source: TrackSource
    ) -> None:
        self._rx = listener.buffer.rx
        self.participant = participant
        self.source = source

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.source} of {self.participant.identity!r}>"

    async def receive(self) -> AudioFrame:
        """Receives a frame.

        Raises:
            anyio.EndOfStream: The participant has left for good, or the session has ended.
            anyio.ClosedResourceError: This stream is closed.
        """
        return await self._rx.receive()

    async def aclose(self) -> None:
        self._rx.close()


class _Serving:
    """A stream that is being served, until its participant has left for good."""

    def __init__(self, listener: ReceivePipeline, stream: ParticipantStream) -> None:
        self.listener = listener
        self.stream = stream
        self.leaving: asyncio.TimerHandle | None = None

    def stay(self) -> None:
        if self.leaving is not None:
            self.leaving.cancel()
            self.leaving = None


async def serve_participants(
    readers: TrackReaders,
    handler: Callable[[ParticipantStream], Awaitable[Any]],
    options: ReceiveOptions,
    grace: float,
) -> None:
    """Serves each wanted participant's track, those there and those to come, until the end."""
    room_state = readers.room_state
    serving: dict[tuple[str, TrackSource], _Serving] = {}

    def begin(participant: Participant, source: TrackSource) -> _Serving:
        one = options.evolve(participants=participant.identity, sources=source, mix=True)
        listener = readers.listen(one, f"the stream of {participant.identity[:MAX_NAME]!r}")
        return _Serving(listener, ParticipantStream(listener, participant, source))

    def give_up(key: tuple[str, TrackSource]) -> None:
        readers.drop(serving.pop(key).listener)

    async def serve(served: _Serving) -> None:
        try:
            async with served.stream:
                handling = handler(served.stream)
                if not isawaitable(handling):
                    raise TypeError(f"the handler {handler!r} must be async")
                await handling
        finally:
            readers.drop(served.listener)

    async with anyio.create_task_group() as tasks:
        try:
            while not room_state.ended:
                for track in list(room_state.tracks.values()):
                    participant = room_state.participants[track.participant]
                    key = (participant.identity, track.source)
                    if key not in serving and options.selects(participant, track.source):
                        serving[key] = begin(participant, track.source)
                        tasks.start_soon(serve, serving[key])
                for key, served in list(serving.items()):
                    there = room_state.participants.get(key[0])
                    if there is None:
                        if served.leaving is None:
                            loop = asyncio.get_running_loop()
                            served.leaving = loop.call_later(grace, give_up, key)
                    elif options.selects(there):
                        served.stay()
                        served.stream.participant = there
                    else:
                        served.stay()
                        give_up(key)
                await room_state.wait_until_changed()
        finally:
            for served in serving.values():
                served.stay()
