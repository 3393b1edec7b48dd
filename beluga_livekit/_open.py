"""`open_livekit`, `attach_room` and `open_loopback`: a session as an async context manager."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, NoReturn, Unpack

from ._connection.attached import AttachedConnection
from ._connection.base import Connection, SessionParts
from ._connection.loopback import LoopbackConnection, LoopbackHub
from ._connection.server import ServerConnection
from ._errors import ConfigError
from ._lifecycle import SessionRunner
from ._options import LoopbackKeywords, SessionKeywords, SessionOptions, check_names, check_url
from ._room.participants import Participant, ParticipantFilter, ParticipantKinds, TrackSources
from ._sdk import rtc
from ._session import LiveKitSession
from ._token import Token, read_token

_MISUSE = (
    "livekit: opening the session failed: it is an async context manager; "
    "write `async with open_livekit(...) as (rx, tx):`"
)


class SessionContextManager(AbstractAsyncContextManager[LiveKitSession, bool]):
    """The async context manager of a session; it can be entered once."""

    def __init__(
        self,
        make_connection: Callable[[SessionParts], Connection],
        options: SessionOptions,
        *,
        absorb: bool = True,
    ) -> None:
        self._make_connection = make_connection
        self._options = options
        self._absorb = absorb
        self._runner: SessionRunner | None = None

    async def __aenter__(self) -> LiveKitSession:
        if self._runner is not None:
            raise RuntimeError(
                "livekit: entering the session failed: a context manager cannot be reused; "
                "open another session"
            )
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            raise ConfigError(
                "livekit: needs asyncio, anyio's default backend: the LiveKit SDK has no other"
            ) from None
        self._runner = runner = SessionRunner(self._make_connection, self._options)
        try:
            await runner.start()
        except BaseException:
            await runner.leave(drain=False)
            raise
        return LiveKitSession(runner)

    def __iter__(self) -> NoReturn:
        raise TypeError(_MISUSE)

    def __await__(self) -> NoReturn:
        raise TypeError(_MISUSE)

    def __aiter__(self) -> NoReturn:
        raise TypeError(_MISUSE)

    def __enter__(self) -> NoReturn:
        raise TypeError(_MISUSE)

    def __exit__(self, *_: object) -> None: ...  # Python looks for it before it enters

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if self._runner is None:
            raise RuntimeError("livekit: leaving the session failed: it was never entered")
        await self._runner.leave(drain=error is None)
        return self._runner.settle_exit(error, absorb=self._absorb)


def open_livekit(
    url: str,
    token: Token,
    *,
    room: str | None = None,
    # Format of the received frames
    sample_rate: int = 16_000,
    num_channels: int = 1,
    frame_size: int | None = None,
    # Selection of what is received
    participants: ParticipantFilter = None,
    participant_kinds: ParticipantKinds | None = None,
    sources: TrackSources = "microphone",
    mix: bool = True,
    pre_connect_audio: bool = False,
    # Bounds
    receive_buffer: float = 1.0,
    max_delay: float | None = 0.04,
    send_buffer: float = 0.2,
    # Timeouts
    connect_timeout: float | None = 10.0,
    rejoin_timeout: float | None = 60.0,
    subscription_timeout: float | None = 10.0,
    drain_timeout: float | None = 5.0,
    departure_timeout: float | None = None,
    # Directions
    publish: bool = True,
    subscribe: bool = True,
    # The SDK's own
    rtc_config: Any = None,
    encryption: Any = None,
    publish_options: Any = None,
    on_room: Callable[[rtc.Room], object] | None = None,
) -> SessionContextManager:
    """Join a room and exchange audio with it over a pair of streams.

    ```python
    async with open_livekit(url, token) as (rx, tx):
        async for frame in rx:
            await tx.send(frame)
    ```

    All times are in seconds. A timeout of None is no limit.

    Args:
        url: Server URL: wss://, ws://, https:// or http://.
        token: Access token, or a callable, sync or async, that returns one for every join.
        room: Room that the token must be for. None: any.
        sample_rate: Sample rate of rx, 8000 to 192000 Hz. tx takes any.
        num_channels: Channels of rx, 1 to 8. A room carries one or two; more are copies. tx takes
            any: with 1 it is published as mono, with more as stereo. (LiveKit's Python SDK encodes
            stereo as mono, up to 1.2 at least.)
        frame_size: Samples per channel in every received frame. None: 20 ms. Voice detectors often
            take 512 at 16 kHz. Frames of 10 ms or less arrive 10 ms sooner and cost more CPU (9.5
            instead of 7 % of a core for an echo).
        participants: Participants that rx receives: an identity, several, or a predicate that is
            asked again when its `Participant` changes. Only selected tracks are subscribed to.
            None: every participant of `participant_kinds`.
        participant_kinds: Kinds of participants that rx receives. None: all but agents where
            `participants` is None, as two bots in a room would talk to each other; any kind where
            it names or tests them. `ParticipantKind`: every kind. A bot's token says that it is an
            agent (`AccessToken.with_kind("agent")`).
        sources: Track sources that rx receives: "microphone", "screen_share_audio", or both.
        mix: Whether simultaneous speakers are mixed. A single speaker is passed through unchanged,
            with `frame.participant` set. False: the frames of all participants alternate.
        pre_connect_audio: Whether audio that LiveKit's clients recorded while they connected comes
            first in rx. Clients send it to agents. Browsers send Opus, which takes the extra
            `preconnect` (PyAV).
        receive_buffer: How long a frame may wait in rx before it is dropped.
        max_delay: How much audio of a speaker may wait in rx all the time. A reader that stays
            later for `receive_buffer` (and 1 s) never catches up, as it passes on in real time what
            it receives: the backlog is trimmed with a crossfade. A reader that catches up loses
            nothing. None: nothing is trimmed, for recorders and transcribers.
        send_buffer: How far a producer may run ahead of playback, 0.02 to 1 s in steps of 10 ms. A
            producer that runs ahead, such as text-to-speech, has that much to bridge a hiccup, and
            loses nothing. Real-time producers (relays) are detected by being waited for, or by the
            `timestamp` of their frames; backlog that a stall leaves is trimmed within seconds.
        connect_timeout: Limit for joining, in all.
        rejoin_timeout: Limit for rejoining under the same rx and tx, with a fresh token if `token`
            is a callable. It begins when the SDK has given up reconnecting (after 20 to 30 s), or
            the server has disconnected us for a reason of its own. 0: never rejoin.
        subscription_timeout: How long the first frame waits for a subscriber.
        drain_timeout: How long a normal exit waits for accepted audio to be played.
        departure_timeout: How long after the last selected participant has left the session ends,
            as by a hang-up. None: it stays.
        publish: Whether to publish a track. False: receive only.
        subscribe: Whether rx receives. False: rx has ended from the start, for programs that only
            send; nothing is subscribed to unless `session.open_rx` or another method asks for it.
        rtc_config: The SDK's `rtc.RtcConfiguration`.
        encryption: The SDK's `rtc.E2EEOptions`.
        publish_options: The SDK's `rtc.TrackPublishOptions`.
        on_room: Called with each `rtc.Room` before it connects, and again for each rejoin: the
            place to register handlers for data, text and RPC.

    Returns:
        An async context manager of a `LiveKitSession`, to be entered once.

        Entering raises `ConnectError` if the room cannot be joined (`AuthenticationError` if the
        server refuses the token). Leaving raises `DisconnectedError` if the connection was lost for
        good. A hang-up is no error: `async for` over rx ends. (A direct `rx.receive()` raises
        `anyio.EndOfStream` then, which leaves the block unless it is caught.)

    Raises:
        ConfigError: An argument is wrong, or the token visibly useless.
    """
    check_url(url)
    if not callable(token):
        read_token(token, room=room)
    options = SessionOptions(
        sample_rate=sample_rate,
        num_channels=num_channels,
        frame_size=frame_size,
        participants=participants,
        participant_kinds=participant_kinds,
        sources=sources,
        mix=mix,
        pre_connect_audio=pre_connect_audio,
        receive_buffer=receive_buffer,
        max_delay=max_delay,
        send_buffer=send_buffer,
        connect_timeout=connect_timeout,
        rejoin_timeout=rejoin_timeout,
        subscription_timeout=subscription_timeout,
        drain_timeout=drain_timeout,
        departure_timeout=departure_timeout,
        publish=publish,
        subscribe=subscribe,
        rtc_config=rtc_config,
        encryption=encryption,
        publish_options=publish_options,
        on_room=on_room,
    )
    rtc.check_options(options)
    return SessionContextManager(
        lambda parts: ServerConnection(url, token, room, options, parts), options
    )


def attach_room(room: rtc.Room, **keywords: Unpack[SessionKeywords]) -> SessionContextManager:
    """Open a session on a connected room that other code owns.

    In a job of LiveKit Agents that is `ctx.room`. The session never rejoins, and leaves the room
    as it was: its track unpublished, its subscriptions released, its handlers removed.

    Args:
        room: The SDK's room, connected.
        **keywords: Keywords of `open_livekit`; `connect_timeout` limits publishing.

    Returns:
        An async context manager of a `LiveKitSession`, to be entered once. Entering raises
        `ConnectError` if the room is not connected.

    Raises:
        ConfigError: An argument is wrong.
    """
    rtc.check_room(room)
    check_names(keywords, SessionKeywords.__annotations__)
    options = SessionOptions(**keywords)
    rtc.check_options(options)
    return SessionContextManager(lambda parts: AttachedConnection(room, options, parts), options)


def open_loopback(**keywords: Unpack[LoopbackKeywords]) -> SessionContextManager:
    """Open a session without a server: rx receives what tx sends.

    The audio passes through the SDK's native audio and through all stages, bounds and pacing, so a
    pipeline can run and be tested anywhere. `frame.participant` is "loopback".

    Args:
        **keywords: Keywords of `open_livekit`.

    Raises:
        ConfigError: An argument is wrong.
    """
    check_names(keywords, LoopbackKeywords.__annotations__)
    options = SessionOptions(**keywords)
    participant = Participant("loopback")
    return SessionContextManager(
        lambda parts: LoopbackConnection(
            LoopbackHub("loopback", echo=True), participant, options, parts
        ),
        options,
    )
