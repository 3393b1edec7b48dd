"""The SDK's public side: join a room, publish, read a track, leave; its errors and its reasons."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncGenerator
from typing import Any

import anyio
import numpy as np
from livekit import rtc

from .._errors import (
    AuthenticationError,
    ConfigError,
    ConnectError,
    DisconnectReason,
    LiveKitError,
    display_url,
    scrub,
)
from .._options import SessionOptions
from .._room.participants import Participant, ParticipantKind, TrackSource
from .._token import Grants
from ..audio.format import WIRE_FRAME_MS, WIRE_RATE, Samples
from . import event_router
from .connect import connect

__all__ = [
    "LocalTrack",
    "Publication",
    "RemotePublication",
    "Room",
    "Track",
    "check_options",
    "check_room",
    "describe",
    "has_preconnect_audio",
    "is_away",
    "is_over",
    "join",
    "leave",
    "local_track",
    "may_publish",
    "mute",
    "new_room",
    "num_channels_of",
    "press",
    "publish",
    "read_track",
    "reason_of",
    "source_of",
    "unpublish",
    "wire_channels",
]

_log = logging.getLogger("beluga_livekit")

# The longest that leaving, unpublishing and closing a track may take: each is a few
# milliseconds, but none of them is bounded by the SDK, and unpublishing was seen to never answer.
LEAVE_TIMEOUT = 5.0
PRESS_TIMEOUT = 5.0  # while it reconnects the SDK takes up to 24 s to say no
CLOSE_TIMEOUT = 2.0

# The SDK counts its own timeout in milliseconds, and knows no infinity (s).
MAX_CONNECT_TIMEOUT = 3600.0

# LiveKit's AudioTrackFeature, names that the SDK does not export.
TF_STEREO = 0
TF_PRECONNECT_BUFFER = 6

Room = rtc.Room
LocalTrack = rtc.LocalAudioTrack
Track = rtc.LocalAudioTrack | rtc.RemoteAudioTrack
Publication = rtc.LocalTrackPublication
RemotePublication = rtc.RemoteTrackPublication


class _Scrub(logging.Filter):
    """The SDK logs the whole token when the server refuses it, and a harmless thing as a warning.

    That is a track's handle, which the native side drops before Python's garbage collector does.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        if "Attempted to drop unknown FFI handle" in message:
            return False
        if (scrubbed := scrub(message)) != message:
            record.msg, record.args = scrubbed, ()
        return True


_scrub = _Scrub()


def new_room() -> rtc.Room:
    """Must be called inside the event loop, as everything of the SDK."""
    event_router.install()
    logging.getLogger("livekit").addFilter(_scrub)  # the same filter is added once only
    return rtc.Room()


def check_room(room: object) -> None:
    """Raises `ConfigError` where this is no room."""
    if not isinstance(room, rtc.Room):
        raise ConfigError(f"livekit: expected an rtc.Room, got {type(room).__name__}")


def is_over(state: Any) -> bool:
    """Whether this state of a connection is the last one."""
    return bool(state == rtc.ConnectionState.CONN_DISCONNECTED)


def is_away(state: Any) -> bool:
    """Whether in this state of a connection it is being mended."""
    return bool(state == rtc.ConnectionState.CONN_RECONNECTING)


def check_options(options: SessionOptions) -> None:
    """Raises `ConfigError` where one of the SDK's own options is none."""
    for name, kind in (
        ("rtc_config", rtc.RtcConfiguration),
        ("encryption", rtc.E2EEOptions),
        ("publish_options", rtc.TrackPublishOptions),
    ):
        value = getattr(options, name)
        if value is not None and not isinstance(value, kind):
            got = type(value).__name__
            raise ConfigError(f"{name} must be an rtc.{kind.__name__}, got {got}")


async def join(
    room: rtc.Room, url: str, token: str, grants: Grants, options: SessionOptions
) -> None:
    """Connects `room`; how long that may take is the caller's to say.

    Audio is subscribed to track by track: the SDK's automatic subscription pulls video too.

    Raises:
        ConnectError: It could not be joined.
    """
    room_options = rtc.RoomOptions(
        auto_subscribe=False,
        rtc_config=options.rtc_config,
        encryption=options.encryption,
        connect_timeout=min(options.connect_timeout, MAX_CONNECT_TIMEOUT),
    )
    place = (url.rstrip("/"), grants.room, grants.identity)
    try:
        await connect(room, url, token, room_options, place)
    except rtc.ConnectError as error:  # `from None`: its text may hold the token
        raise _connect_error(error.message.replace(token, "<token>"), display_url(url)) from None


def _connect_error(text: str, shown: str) -> ConnectError:
    status = re.search(r"\b(?:client|server) error: (\d{3})", text)
    code = int(status[1]) if status else None
    cause = " ".join(scrub(text.removeprefix("engine: signal failure: ")).split())
    if code in (401, 403):
        return AuthenticationError(f"livekit: {shown} refused the token: {cause}")
    return ConnectError(
        f"livekit: cannot join {shown}: {cause}", retryable=code is None or code >= 500
    )


async def leave(room: rtc.Room) -> None:
    """Leaves within `LEAVE_TIMEOUT`."""
    with anyio.move_on_after(LEAVE_TIMEOUT, shield=True):
        try:
            await room.disconnect()
        except Exception as error:  # noqa: BLE001 - whatever it was, we are on our way out
            _log.warning("livekit: leaving: %s", scrub(str(error)))


def wire_channels(num_channels: int) -> int:
    """How many of a session's channels travel: an Opus track has one or two."""
    return min(num_channels, 2)


def local_track(source: rtc.AudioSource) -> rtc.LocalAudioTrack:
    return rtc.LocalAudioTrack.create_audio_track("beluga", source)


def may_publish(room: rtc.Room) -> bool:
    """Whether a microphone may be published in a room that has been joined."""
    granted = room.local_participant.permissions
    microphone = rtc.TrackSource.SOURCE_MICROPHONE
    sources = granted.can_publish_sources
    return granted.can_publish and (not sources or microphone in sources)


async def publish(
    room: rtc.Room, track: rtc.LocalAudioTrack, options: SessionOptions
) -> rtc.LocalTrackPublication:
    """Publishes a track; cancelled, it undoes that, in bounded time.

    Raises:
        ConnectError: The server refused it.
    """
    publish_options = options.publish_options
    if publish_options is None:
        publish_options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
    publishing = asyncio.create_task(
        room.local_participant.publish_track(track, publish_options), name="beluga_livekit publish"
    )
    try:
        return await asyncio.shield(publishing)
    except rtc.participant.PublishTrackError as error:
        raise ConnectError(f"livekit: cannot publish: {scrub(error.message)}") from None
    except asyncio.CancelledError:
        with anyio.CancelScope(shield=True):
            await _take_back(room, publishing)
        raise


async def _take_back(room: rtc.Room, publishing: asyncio.Task[rtc.LocalTrackPublication]) -> None:
    """The SDK goes on publishing: if nobody took its answer the track would never be freed."""
    if room.isconnected():  # it does not answer otherwise
        await asyncio.wait({publishing}, timeout=CLOSE_TIMEOUT)
    publishing.cancel()
    await asyncio.wait({publishing})
    if not publishing.cancelled() and publishing.exception() is None:
        await unpublish(room, publishing.result())


async def unpublish(room: rtc.Room, publication: rtc.LocalTrackPublication) -> None:
    """Unpublishes within `CLOSE_TIMEOUT`; a room that has ended has done so already."""
    with anyio.move_on_after(CLOSE_TIMEOUT, shield=True):
        try:
            await room.local_participant.unpublish_track(publication.sid)
        except Exception as error:  # noqa: BLE001 - whatever it was, the track is gone
            _log.debug("livekit: unpublishing: %s", scrub(str(error)))


def mute(track: LocalTrack, muted: bool) -> None:
    """Mutes a published track, or no longer."""
    (track.mute if muted else track.unmute)()


async def press(room: rtc.Room, code: int, digit: str) -> None:
    """Tells the room of a key of a telephone.

    Raises:
        LiveKitError: The SDK did not send it, or not within `PRESS_TIMEOUT`.
    """
    why = f"no answer within {PRESS_TIMEOUT:g} s"
    with anyio.move_on_after(PRESS_TIMEOUT):
        try:
            await room.local_participant.publish_dtmf(code=code, digit=digit)
        except rtc.participant.PublishDTMFError as error:
            why = scrub(error.message)
        else:
            return
    raise LiveKitError(f"livekit: cannot send {digit!r}: {why}")


_KINDS = {
    value: ParticipantKind(name.removeprefix("PARTICIPANT_KIND_").lower())
    for name, value in rtc.ParticipantKind.items()
    if name.removeprefix("PARTICIPANT_KIND_") in ParticipantKind.__members__
}


def describe(
    participant: rtc.LocalParticipant | rtc.RemoteParticipant, *, is_self: bool = False
) -> Participant:
    """Returns who that is; of a kind that is newer than we are, STANDARD."""
    return Participant(
        participant.identity,
        participant.name,
        _KINDS.get(participant.kind, ParticipantKind.STANDARD),
        participant.attributes,
        participant.metadata,
        is_self,
    )


def source_of(publication: rtc.RemoteTrackPublication) -> TrackSource | None:
    """Returns what sound a publication is, or None where it is none."""
    if publication.kind != rtc.TrackKind.KIND_AUDIO:
        return None
    if publication.source == rtc.TrackSource.SOURCE_SCREENSHARE_AUDIO:
        return TrackSource.SCREEN_SHARE_AUDIO
    return TrackSource.MICROPHONE


def has_preconnect_audio(publication: rtc.RemoteTrackPublication) -> bool:
    return TF_PRECONNECT_BUFFER in publication.audio_features


def num_channels_of(publication: rtc.RemoteTrackPublication) -> int:
    return 2 if TF_STEREO in publication.audio_features else 1


async def read_track(
    track: Track, num_channels: int, frame_ms: int = WIRE_FRAME_MS
) -> AsyncGenerator[Samples]:
    """Reads a track as wire frames: int16, shape (n,) or (n, channels).

    The SDK never ends the stream of a track that has gone. Close this generator then.
    """
    stream = rtc.AudioStream(
        track,
        sample_rate=WIRE_RATE,
        num_channels=num_channels,
        frame_size_ms=frame_ms,
    )
    try:
        async for event in stream:
            samples = np.frombuffer(event.frame.data, np.int16)
            channels = event.frame.num_channels  # not always as many as asked for
            yield samples if channels == 1 else samples.reshape(-1, channels)
    finally:
        # Cancelled midway it would leave its reader and its subscription behind.
        with anyio.move_on_after(CLOSE_TIMEOUT, shield=True):
            await stream.aclose()


_REASONS: dict[Any, DisconnectReason] = {
    value: DisconnectReason(name.lower().replace("unknown_reason", "unknown"))
    for name, value in rtc.DisconnectReason.items()
    if name == "UNKNOWN_REASON" or name in DisconnectReason.__members__
}


def reason_of(value: Any) -> DisconnectReason:
    """Returns our name for the SDK's reason; UNKNOWN for one that is newer than we are."""
    return _REASONS.get(value, DisconnectReason.UNKNOWN)
