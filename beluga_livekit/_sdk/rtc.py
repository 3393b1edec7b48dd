"""The SDK's public API: rooms, tracks, publications, participants, errors and reasons."""

import asyncio
import logging
import re
from collections.abc import AsyncGenerator, Iterable
from typing import Any, NamedTuple

import anyio
import numpy as np
from livekit import rtc

from .. import _errors
from .._errors import ConfigError, ConnectError, DisconnectReason, scrub
from .._options import SessionOptions
from .._room.participants import Participant, ParticipantKind, TrackSource
from .._token import Grants
from ..audio.format import WIRE_FRAME_MS, WIRE_RATE, Samples
from . import private_names
from .connect import connect

_log = logging.getLogger("beluga_livekit")

# Timeout for leaving a room (s). It takes some milliseconds, but the SDK does not bound it.
LEAVE_TIMEOUT = 5.0
# Timeout for sending a key (s). While the SDK reconnects, it takes up to 24 s to refuse.
DTMF_TIMEOUT = 5.0
# Timeout for unpublishing, and for closing the stream of a track (s). Each takes some milliseconds,
# but the SDK does not bound them, and at times never answers an unpublish.
CLOSE_TIMEOUT = 2.0
# Timeout for a track's statistics (s), which the SDK does not bound. An answer takes 1 to 3 ms.
STATISTICS_TIMEOUT = 1.0
# Limit of the SDK's own connect timeout (s), which it counts in milliseconds, without infinity.
MAX_CONNECT_TIMEOUT = 3600.0

# Values of LiveKit's AudioTrackFeature, which the SDK does not export.
TF_STEREO = 0
TF_PRECONNECT_BUFFER = 6

# The SDK's states of encryption in which it gives silence in place of a participant's audio.
UNDECRYPTABLE: dict[Any, str] = {
    rtc.EncryptionState.DECRYPTION_FAILED: "the key is another one",
    rtc.EncryptionState.MISSING_KEY: "there is no key for this participant",
}
# Values of LiveKit's DtlsTransportState and IceTransportState: disconnected, failed and closed.
DTLS_CONNECTED = 2
ICE_DOWN = (4, 5, 6)

ConnectionState = rtc.ConnectionState
Room = rtc.Room
LocalTrack = rtc.LocalAudioTrack
Track = rtc.LocalAudioTrack | rtc.RemoteAudioTrack
Publication = rtc.LocalTrackPublication


def _filter_log(record: logging.LogRecord) -> bool:
    """Remove tokens from the SDK's log lines, and drop a harmless warning.

    The SDK logs the whole token where the server refuses it. The warning is about a track's handle
    that the native side drops before Python's garbage collector does.
    """
    message = record.getMessage()
    if "Attempted to drop unknown FFI handle" in message:
        return False
    if (scrubbed := scrub(message)) != message:
        record.msg, record.args = scrubbed, ()
    return True


def new_room() -> rtc.Room:
    """Make a room. Like all SDK objects it needs the running event loop."""
    private_names.install()
    logging.getLogger("livekit").addFilter(_filter_log)  # adding it again has no effect
    return rtc.Room()


def check_room(room: object) -> None:
    if not isinstance(room, rtc.Room):
        raise ConfigError(f"livekit: room must be an rtc.Room, got {type(room).__name__}")


def check_options(options: SessionOptions) -> None:
    """Raise `ConfigError` if one of the SDK's own options has another type."""
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
    """Connect `room`, without a timeout of its own.

    Automatic subscription is off: it would include video.
    """
    room_options = rtc.RoomOptions(
        auto_subscribe=False,
        rtc_config=options.rtc_config,
        encryption=options.encryption,
        connect_timeout=min(options.connect_timeout, MAX_CONNECT_TIMEOUT),
    )
    slot = (url.rstrip("/"), grants.room, grants.identity)
    try:
        await connect(room, url, token, room_options, slot)
    except rtc.ConnectError as error:  # `from None`: its text may hold the token
        raise _connect_error(
            error.message.replace(token, "<token>"), _errors.display_url(url)
        ) from None


def _connect_error(text: str, shown: str) -> ConnectError:
    status = re.search(r"\b(?:client|server) error: (\d{3})", text)
    code = int(status[1]) if status else None
    cause = " ".join(scrub(text.removeprefix("engine: signal failure: ")).split())
    if code in (401, 403):
        return _errors.AuthenticationError(
            f"livekit: joining {shown} failed: the server refused the token: {cause}; "
            "check its API key and secret"
        )
    return ConnectError(
        f"livekit: joining {shown} failed: {cause}", retryable=code is None or code >= 500
    )


async def leave(room: rtc.Room) -> None:
    with anyio.move_on_after(LEAVE_TIMEOUT, shield=True):
        try:
            await room.disconnect()
        except Exception as error:  # noqa: BLE001 - the session ends, whatever the SDK raises
            _log.warning("livekit: leaving the room failed: %s", scrub(str(error)))


def wire_channels(num_channels: int) -> int:
    """Return the number of channels of our track: an Opus track has one or two."""
    return min(num_channels, 2)


def local_track(source: rtc.AudioSource) -> rtc.LocalAudioTrack:
    return rtc.LocalAudioTrack.create_audio_track("beluga", source)


def may_publish(room: rtc.Room) -> bool:
    """Return whether the session may publish a microphone in a joined room."""
    granted = room.local_participant.permissions
    sources = granted.can_publish_sources or [rtc.TrackSource.SOURCE_MICROPHONE]
    return granted.can_publish and rtc.TrackSource.SOURCE_MICROPHONE in sources


def allow_subscribers(room: rtc.Room, identities: Iterable[str] | None) -> None:
    """Let only these participants subscribe to our tracks; None: all."""
    permissions = [
        rtc.ParticipantTrackPermission(participant_identity=each, allow_all=True)
        for each in identities or ()
    ]
    room.local_participant.set_track_subscription_permissions(
        allow_all_participants=identities is None, participant_permissions=permissions
    )


class MediaPath(NamedTuple):
    """The path of our media to the server."""

    ice_fragment: str  # changes when ICE is restarted
    candidate_pair: str  # changes when the restart has succeeded
    packets_received: int


async def media_path(track: rtc.LocalAudioTrack) -> MediaPath | None:
    """Return the path that media of our track takes; None if it is down."""
    with anyio.move_on_after(STATISTICS_TIMEOUT):
        try:
            statistics = await track.get_stats()
        except Exception:  # noqa: BLE001 - a bare one: "no transceiver found"
            return None
        for each in statistics:
            transport = each.transport.transport
            is_connected = transport.dtls_state == DTLS_CONNECTED
            if each.HasField("transport") and is_connected and transport.ice_state not in ICE_DOWN:
                return MediaPath(
                    transport.ice_local_username_fragment,
                    transport.selected_candidate_pair_id,
                    transport.packets_received,
                )
    return None


async def publish(
    room: rtc.Room, track: rtc.LocalAudioTrack, options: SessionOptions
) -> rtc.LocalTrackPublication:
    """Publish a track. When cancelled, unpublish it in bounded time."""
    publish_options = options.publish_options
    if publish_options is None:
        publish_options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
    publishing = asyncio.create_task(
        room.local_participant.publish_track(track, publish_options), name="beluga_livekit publish"
    )
    try:
        return await asyncio.shield(publishing)
    except rtc.participant.PublishTrackError as error:
        raise ConnectError(f"livekit: publishing failed: {scrub(error.message)}") from None
    except asyncio.CancelledError:
        # The SDK cannot cancel a publish, and without its answer the track would never be freed.
        with anyio.CancelScope(shield=True):
            if room.isconnected():  # otherwise it never answers
                await asyncio.wait({publishing}, timeout=CLOSE_TIMEOUT)
            publishing.cancel()
            await asyncio.wait({publishing})
            if not publishing.cancelled() and publishing.exception() is None:
                await unpublish(room, publishing.result())
        raise


async def unpublish(room: rtc.Room, publication: rtc.LocalTrackPublication) -> None:
    with anyio.move_on_after(CLOSE_TIMEOUT, shield=True):
        try:
            await room.local_participant.unpublish_track(publication.sid)
        except Exception as error:  # noqa: BLE001 - a disconnected room has unpublished already
            _log.debug("livekit: unpublishing failed: %s", scrub(str(error)))


async def send_dtmf(room: rtc.Room, code: int, digit: str) -> None:
    """Send a telephone key to the room within `DTMF_TIMEOUT`, or raise `LiveKitError`."""
    cause = f"no answer within {DTMF_TIMEOUT:g} s"
    with anyio.move_on_after(DTMF_TIMEOUT):
        try:
            await room.local_participant.publish_dtmf(code=code, digit=digit)
        except rtc.participant.PublishDTMFError as error:
            cause = scrub(error.message)
        else:
            return
    raise _errors.LiveKitError(f"livekit: sending the key {digit!r} failed: {cause}")


_KINDS = {
    value: ParticipantKind(name.removeprefix("PARTICIPANT_KIND_").lower())
    for name, value in rtc.ParticipantKind.items()
    if name.removeprefix("PARTICIPANT_KIND_") in ParticipantKind.__members__
}


def participant_of(
    participant: rtc.LocalParticipant | rtc.RemoteParticipant, *, is_self: bool = False
) -> Participant:
    """Return the record of an SDK participant; its kind is STANDARD if unknown to us."""
    return Participant(
        participant.identity,
        participant.name,
        _KINDS.get(participant.kind, ParticipantKind.STANDARD),
        participant.attributes,
        participant.metadata,
        is_self,
    )


def source_of(publication: rtc.RemoteTrackPublication) -> TrackSource | None:
    """Return the source of an audio publication; None for video."""
    if publication.kind != rtc.TrackKind.KIND_AUDIO:
        return None
    if publication.source == rtc.TrackSource.SOURCE_SCREENSHARE_AUDIO:
        return TrackSource.SCREEN_SHARE_AUDIO
    return TrackSource.MICROPHONE


async def read_track(
    track: Track, num_channels: int, frame_ms: int = WIRE_FRAME_MS
) -> AsyncGenerator[Samples]:
    """Read a track as wire frames: int16, shape (n,) or (n, channels).

    Close this generator when the track is unsubscribed or gone: the SDK never ends its stream.
    """
    stream = rtc.AudioStream(
        track, sample_rate=WIRE_RATE, num_channels=num_channels, frame_size_ms=frame_ms
    )
    try:
        async for event in stream:
            samples = np.frombuffer(event.frame.data, np.int16)
            channels = event.frame.num_channels  # may differ from num_channels
            yield samples if channels == 1 else samples.reshape(-1, channels)
    finally:
        # A cancelled aclose would leak the SDK's reader task and its subscription.
        with anyio.move_on_after(CLOSE_TIMEOUT, shield=True):
            await stream.aclose()


async def received(track: rtc.RemoteAudioTrack) -> tuple[int, int]:
    """Return how many packets of a track have arrived, and how many samples were decoded.

    With a wrong key packets arrive, and nothing is decoded.
    """
    packets = samples = 0
    with anyio.move_on_after(CLOSE_TIMEOUT):
        try:
            statistics = await track.get_stats()
        except Exception as error:  # noqa: BLE001 - the track may have gone meanwhile
            _log.debug("livekit: reading the statistics of a track failed: %s", scrub(str(error)))
        else:
            for each in statistics:
                packets += each.inbound_rtp.received.packets_received
                samples += each.inbound_rtp.inbound.total_samples_received
    return packets, samples


_REASONS: dict[Any, DisconnectReason] = {
    value: DisconnectReason[name]
    for name, value in rtc.DisconnectReason.items()
    if name in DisconnectReason.__members__
}


def disconnect_reason(value: Any) -> DisconnectReason:
    """Return the reason for the SDK's value; UNKNOWN if unknown to us."""
    return _REASONS.get(value, DisconnectReason.UNKNOWN)
