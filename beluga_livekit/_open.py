"""`open_livekit`, `attach_room` and `open_loopback`: a session as an async context manager."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any

from ._connection.loopback import LoopbackConnection, LoopbackHub
from ._connection.server import AttachedConnection, Connection, ServerConnection
from ._errors import ConfigError, DisconnectedError, DisconnectReason
from ._lifecycle import SessionRunner, first
from ._logging import SessionLog
from ._options import SessionOptions, check_url
from ._room.participants import Participant, ParticipantFilter, ParticipantKinds, TrackSources
from ._sdk import rtc
from ._session import LiveKitSession
from ._token import Token, read_token

__all__ = ["SessionContextManager", "attach_room", "open_livekit", "open_loopback"]


class SessionContextManager(AbstractAsyncContextManager[LiveKitSession, bool]):
    """What `open_livekit` returns: `async with` it, once."""

    def __init__(
        self,
        make_connection: Callable[[SessionLog], Connection],
        options: SessionOptions,
        *,
        absorb: bool = True,
    ) -> None:
        self._make_connection = make_connection
        self._options = options
        self._absorb = absorb
        self._entered = False

    async def __aenter__(self) -> LiveKitSession:
        if self._entered:
            raise RuntimeError("livekit: a session is entered once; open another")
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            raise ConfigError(
                "livekit: needs asyncio, anyio's default backend: the LiveKit SDK has no other"
            ) from None
        self._entered = True
        log = SessionLog()
        runner = self._runner = SessionRunner(self._make_connection(log), self._options, log)
        try:
            await runner.start()
        except BaseException:
            await runner.leave(play_out=False)
            raise
        return LiveKitSession(runner)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        await self._runner.leave(play_out=error is None)
        absorbed = _verdict(self._runner, error) and self._absorb
        if absorbed:  # what comes after it in the block has not been run
            self._runner.log.info("the block was left by: %s", error)
        return absorbed


def _verdict(runner: SessionRunner, error: BaseException | None) -> bool:
    """Decides what leaves the block; returns whether its error is absorbed."""
    if error is None:
        if runner.failure is not None:
            raise runner.failure
        if runner.lost:
            raise runner.disconnected()
        return False
    if _is_own(error, runner):
        if runner.failure is not None:
            raise runner.failure from None
        if not runner.lost:
            return True
        if isinstance(error, DisconnectedError):
            return False
        raise first(error) from None
    if runner.failure is not None:
        error.add_note(f"livekit: the session had failed: {runner.failure!r}")
    elif runner.reason not in (None, DisconnectReason.CLIENT_INITIATED):
        error.add_note(f"livekit: the session had been disconnected: {runner.reason}")
    return False


def _is_own(error: BaseException, runner: SessionRunner) -> bool:
    """Whether this is the session's own DisconnectedError, or a group of nothing else."""
    if isinstance(error, BaseExceptionGroup):
        return all(_is_own(inner, runner) for inner in error.exceptions)
    return isinstance(error, DisconnectedError) and error.origin is runner


def open_livekit(
    url: str,
    token: Token,
    *,
    room: str | None = None,
    sample_rate: int = 16_000,
    num_channels: int = 1,
    frame_size: int | None = None,
    receive_buffer: float = 1.0,
    max_delay: float | None = 0.04,
    participants: ParticipantFilter = None,
    participant_kinds: ParticipantKinds | None = None,
    sources: TrackSources = "microphone",
    mix: bool = True,
    send_buffer: float = 0.2,
    connect_timeout: float | None = 10.0,
    rejoin_timeout: float | None = 60.0,
    subscription_timeout: float | None = 10.0,
    drain_timeout: float | None = 5.0,
    departure_timeout: float | None = None,
    pre_connect_audio: bool = False,
    publish: bool = True,
    rtc_config: Any = None,
    encryption: Any = None,
    publish_options: Any = None,
    on_room: Callable[[rtc.Room], object] | None = None,
) -> SessionContextManager:
    """Joins a room, and gives its sound as a pair of streams.

    ```python
    async with open_livekit(url, token) as (rx, tx):
        async for frame in rx:
            await tx.send(frame)
    ```

    Args:
        url: Where the server is: wss://, ws://, https:// or http://.
        token: An access token, or a callable, sync or async, that returns one: called for every
            join.
        room: The room that the token has to be for; without it, whichever room that is.
        sample_rate: Of the received frames, in Hz, 8000 to 192000. What is sent may have any.
        num_channels: Of the received frames, 1 to 8. A room carries one or two: more are copies.
            What is sent may have any; with 1 it travels as mono, with more as stereo. (LiveKit's
            Python SDK encodes stereo as mono, up to 1.2 at least.)
        frame_size: Samples per channel in every received frame. Default: 20 ms, to the nearest
            sample; voice detectors often want 512 at 16 kHz. Frames of 10 ms or less are
            read 10 ms sooner, and cost more CPU (9.5 instead of 7 % of a core, for an echo).
        receive_buffer: How long, in seconds, a frame may wait in rx before it is dropped.
        max_delay: How much of a speaker's sound, in seconds, may wait in rx all the time. A
            consumer that is later for longer than `receive_buffer` (and 1 s) never catches up, as
            it passes on in real time what it receives: what it is late by is shed, with a
            crossfade. One that catches up by itself loses nothing. None: nothing is shed, for
            recorders and transcribers.
        participant_kinds: Kinds.
        participants: Who is heard: an identity, several, or a predicate that takes a `Participant`,
            and is asked again when that changes. Only what is heard is subscribed to. None: all
            that are no agents, as two bots in a room would talk to each other; a bot's token says
            that it is one (`AccessToken.with_kind("agent")`).
        sources: What of theirs: "microphone", "screen_share_audio", or both.
        mix: Whether several who speak at once are mixed, as a person in the room would hear them:
            one alone passes through as it is, and `frame.participant` says who. False: everybody's
            frames alternate.
        send_buffer: How far, in seconds, a producer may be ahead of what is played, 0.02 to 1;
            rounded to 10 ms. One that runs ahead, as text-to-speech does, has that much to get over
            a hiccup, and loses nothing. One in real time, as a relay is, is told apart by being
            waited for, or by frames with a `timestamp`, as those of rx have: what stands in the
            queue all the same, after a stall, is shed within seconds, with crossfades.
        connect_timeout: For joining, in all, in seconds.
        rejoin_timeout: A lost connection is mended by the SDK; where it has given up (after 20 to
            30 s), or the server has sent us away for reasons of its own, the session joins the room
            anew, with a fresh token if `token` is a callable. This is how long, in seconds, it
            tries; 0 turns it off.
        subscription_timeout: How long the first frame waits for somebody who listens, in seconds.
        drain_timeout: How long, on a normal exit, accepted sound may take to be played.
        departure_timeout: How long, in seconds, after the last of those who are heard has left the
            session ends, as by a hang-up. None: it stays.
        pre_connect_audio: Whether what LiveKit's clients have recorded while they connected (their
            pre-connect buffer, which they send to agents) comes first in rx. What browsers send
            takes the extra `preconnect`, which is PyAV.
        publish: False to receive only.
        rtc_config: The SDK's `rtc.RtcConfiguration`.
        encryption: The SDK's `rtc.E2EEOptions`.
        publish_options: The SDK's `rtc.TrackPublishOptions`.
        on_room: Called with each `rtc.Room` before it connects, again when the session joins
            anew: the place to register handlers for data, text and RPC.

    Returns:
        An async context manager, to be entered once, that gives a `LiveKitSession`.

        Entering raises `ConnectError` where the room could not be joined (`AuthenticationError`
        where the server refused the token). Leaving raises `DisconnectedError` where the
        connection was lost for good; a hang-up is no error.

    Raises:
        ConfigError: An argument is wrong, or the token can be seen to be of no use.
    """
    check_url(url)
    if not callable(token):
        read_token(token, room=room)
    options = SessionOptions(
        sample_rate=sample_rate,
        num_channels=num_channels,
        frame_size=frame_size,
        receive_buffer=receive_buffer,
        max_delay=max_delay,
        participants=participants,
        participant_kinds=participant_kinds,
        sources=sources,
        mix=mix,
        send_buffer=send_buffer,
        connect_timeout=connect_timeout,
        rejoin_timeout=rejoin_timeout,
        subscription_timeout=subscription_timeout,
        drain_timeout=drain_timeout,
        departure_timeout=departure_timeout,
        pre_connect_audio=pre_connect_audio,
        publish=publish,
        rtc_config=rtc_config,
        encryption=encryption,
        publish_options=publish_options,
        on_room=on_room,
    )
    rtc.check_options(options)
    return SessionContextManager(
        lambda log: ServerConnection(url, token, room, options, log), options
    )


def attach_room(
    room: rtc.Room,
    *,
    sample_rate: int = 16_000,
    num_channels: int = 1,
    frame_size: int | None = None,
    receive_buffer: float = 1.0,
    max_delay: float | None = 0.04,
    participants: ParticipantFilter = None,
    participant_kinds: ParticipantKinds | None = None,
    sources: TrackSources = "microphone",
    mix: bool = True,
    send_buffer: float = 0.2,
    connect_timeout: float | None = 10.0,
    subscription_timeout: float | None = 10.0,
    drain_timeout: float | None = 5.0,
    departure_timeout: float | None = None,
    pre_connect_audio: bool = False,
    publish: bool = True,
    publish_options: Any = None,
) -> SessionContextManager:
    """Gives the same session on a room that somebody else has connected, and will disconnect.

    In a job of LiveKit Agents that is `ctx.room`. The session never joins anew, and leaves the room
    as it was found: its track unpublished, its subscriptions given back, its handlers removed.

    Args:
        room: The SDK's room, connected.
        sample_rate: As for `open_livekit`, and so are the others.
        num_channels: See there.
        frame_size: See there.
        receive_buffer: See there.
        max_delay: See there.
        participants: See there.
        participant_kinds: See there.
        sources: See there.
        mix: See there.
        send_buffer: See there.
        connect_timeout: For publishing, in seconds.
        subscription_timeout: See there.
        drain_timeout: See there.
        departure_timeout: See there.
        pre_connect_audio: See there.
        publish: See there.
        publish_options: See there.

    Returns:
        An async context manager, to be entered once, that gives a `LiveKitSession`. Entering raises
        `ConnectError` where the room is not connected.

    Raises:
        ConfigError: An argument is wrong.
    """
    rtc.check_room(room)
    options = SessionOptions(
        sample_rate=sample_rate,
        num_channels=num_channels,
        frame_size=frame_size,
        receive_buffer=receive_buffer,
        max_delay=max_delay,
        participants=participants,
        participant_kinds=participant_kinds,
        sources=sources,
        mix=mix,
        send_buffer=send_buffer,
        connect_timeout=connect_timeout,
        subscription_timeout=subscription_timeout,
        drain_timeout=drain_timeout,
        departure_timeout=departure_timeout,
        pre_connect_audio=pre_connect_audio,
        publish=publish,
        publish_options=publish_options,
    )
    rtc.check_options(options)
    return SessionContextManager(lambda log: AttachedConnection(room, options, log), options)


def open_loopback(
    *,
    sample_rate: int = 16_000,
    num_channels: int = 1,
    frame_size: int | None = None,
    receive_buffer: float = 1.0,
    max_delay: float | None = 0.04,
    send_buffer: float = 0.2,
    drain_timeout: float | None = 5.0,
) -> SessionContextManager:
    """Gives the same session with no server: what tx gets, rx hears.

    The sound goes through the SDK's own native audio and through all of our stages, buffers and
    pacing, so a pipeline can be run and tested anywhere. Its frames' participant is "loopback".

    Args:
        sample_rate: As for `open_livekit`, and so are the others.
        num_channels: See there.
        frame_size: See there.
        receive_buffer: See there.
        max_delay: See there.
        send_buffer: See there.
        drain_timeout: See there.

    Raises:
        ConfigError: An argument is wrong.
    """
    options = SessionOptions(
        sample_rate=sample_rate,
        num_channels=num_channels,
        frame_size=frame_size,
        receive_buffer=receive_buffer,
        max_delay=max_delay,
        send_buffer=send_buffer,
        drain_timeout=drain_timeout,
    )
    echo = Participant("loopback")
    return SessionContextManager(
        lambda log: LoopbackConnection(LoopbackHub("no room"), echo, options, log, echo=True),
        options,
    )
