"""Beluga's provider surface: transports by provider name, and a session as a voice transport.

| Beluga (Go)                          | here                                        |
|--------------------------------------|---------------------------------------------|
| `transport.New("livekit", cfg)`      | `transport.new("livekit", config)`          |
| `livekit.New(cfg)`                   | `LiveKitTransport(config)`                  |
| `transport.Register`, `List`         | `transport.register`, `providers`           |
| `transport.AsVoiceTransport(t)`      | `AsVoiceTransport(session)`                 |
"""

import importlib.metadata
import inspect
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, Literal, Protocol, overload

import anyio
import attrs
from anyio.abc import ByteSendStream

from ._errors import ConfigError, display_url
from ._lifecycle import CLOSED
from ._open import open_livekit
from ._options import check_names
from ._session import LiveKitSession
from ._token import Token
from .audio.frame import AudioFrame
from .pcm import PcmSendStream

__all__ = [
    "AsVoiceTransport", "LiveKitTransport", "TransportConfig", "VoiceTransport", "new", "providers",
    "register",
]  # fmt: skip


def _check_mapping(_: object, attribute: Any, value: object) -> None:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{attribute.name} must be a mapping, got {type(value).__name__}")


@attrs.frozen
class TransportConfig:
    """The configuration of a transport provider, with Beluga's fields.

    Attributes:
        url: Server URL: ws, wss, http or https.
        token: Access token, or a callable that returns one.
        sample_rate: Sample rate of the received frames (Hz).
        channels: Channels of the received frames.
        extra: Options of the provider. LiveKit takes `room` and other keywords of `open_livekit`.
    """

    url: str = attrs.field(default="", repr=lambda url: repr(display_url(str(url))))
    token: Token = attrs.field(default="", repr=lambda token: "<token>" if token else "''")
    sample_rate: int = 16_000
    channels: int = 1
    extra: Mapping[str, Any] = attrs.field(factory=dict, validator=_check_mapping)


Factory = Callable[[TransportConfig], AbstractAsyncContextManager[Any, Any]]

# The field of TransportConfig for each keyword that `extra` must not have.
_FIELDS = {name: name for name in ("url", "token", "sample_rate", "channels")}
_FIELDS["num_channels"] = "channels"

_registered: dict[str, Factory] = {}


class LiveKitTransport(AbstractAsyncContextManager[LiveKitSession, bool]):
    """The LiveKit provider. It is validated when made, and connects once, on `async with`.

    Args:
        config: `extra` takes `room` and any keyword of `open_livekit` without a field.

    Raises:
        ConfigError: A field, or a key of `extra`, is wrong.
    """

    def __init__(self, config: TransportConfig) -> None:
        if not isinstance(config, TransportConfig):
            raise ConfigError(f"livekit: expected a TransportConfig, got {type(config).__name__}")
        for key in config.extra:
            if key in _FIELDS:
                raise ConfigError(
                    f"livekit: extra[{key!r}] is not allowed; set TransportConfig.{_FIELDS[key]}"
                )
        known = [name for name in inspect.signature(open_livekit).parameters if name not in _FIELDS]
        try:
            check_names(map(str, config.extra), known)
        except TypeError as error:
            raise ConfigError(f"livekit: TransportConfig.extra: {error}") from None
        self._session = open_livekit(
            config.url,
            config.token,
            sample_rate=config.sample_rate,
            num_channels=config.channels,
            **config.extra,
        )

    async def __aenter__(self) -> LiveKitSession:
        return await self._session.__aenter__()

    async def __aexit__(self, *exc_info: Any) -> bool:
        return await self._session.__aexit__(*exc_info)


def register(name: str, factory: Factory) -> None:
    """Add a provider. A package can instead have an entry point in the group `beluga.transports`.

    Raises:
        ConfigError: The name is registered already.
    """
    if name in _factories():
        raise ConfigError(f"transport: {name!r} is registered already; choose another name")
    _registered[name] = factory


def providers() -> list[str]:
    """Return the names of the registered providers, sorted."""
    return sorted(_factories())


@overload
def new(name: Literal["livekit"], config: TransportConfig) -> LiveKitTransport: ...
@overload
def new(name: str, config: TransportConfig) -> AbstractAsyncContextManager[Any, Any]: ...
def new(name: str, config: TransportConfig) -> AbstractAsyncContextManager[Any, Any]:
    """Make a transport by the name of its provider. It validates, and opens nothing.

    Raises:
        ConfigError: The provider is unknown, or the configuration is wrong.
    """
    factories = _factories()
    if name not in factories:
        known = ", ".join(sorted(factories))
        raise ConfigError(f"transport: unknown provider {name!r}; known: {known}")
    return factories[name](config)


def _factories() -> dict[str, Factory]:
    found: dict[str, Factory] = {"livekit": LiveKitTransport}
    for entry in importlib.metadata.entry_points(group="beluga.transports"):
        found.setdefault(entry.name, partial(_load, entry))
    return found | _registered


def _load(entry: importlib.metadata.EntryPoint, config: TransportConfig) -> Any:
    return entry.load()(config)


class VoiceTransport(Protocol):
    """The interface that a voice pipeline takes."""

    def recv(self) -> AsyncIterator[AudioFrame]:
        """Return an iterator of the received frames."""

    async def send(self, frame: AudioFrame) -> None:
        """Send a frame."""

    @property
    def audio_out(self) -> ByteSendStream:
        """The stream that takes raw PCM in the transport's format, in chunks of any size."""

    async def close(self) -> None:
        """Close the transport. A second call does nothing."""


class _AudioOut(PcmSendStream):
    """A `PcmSendStream` that leaves tx open: tx is the session's."""

    async def _close_tx(self) -> None:
        pass


class AsVoiceTransport:
    """A session as a `VoiceTransport`. After `close` its methods raise `ClosedResourceError`."""

    def __init__(self, session: LiveKitSession) -> None:
        self._session = session
        self._audio_out: PcmSendStream | None = None
        self._closed = False

    def recv(self) -> AsyncIterator[AudioFrame]:
        """Return the session's rx, which is an async iterator."""
        self._check_open()
        return aiter(self._session.rx)

    async def send(self, frame: AudioFrame) -> None:
        """Send a frame to the session's tx."""
        self._check_open()
        await self._session.send(frame)

    @property
    def audio_out(self) -> ByteSendStream:
        """A byte stream into tx, for one task at a time. Closing it leaves `send` open."""
        self._check_open()
        if self._audio_out is None:
            rate, channels = self._session.sample_rate, self._session.num_channels
            self._audio_out = _AudioOut(self._session.tx, sample_rate=rate, num_channels=channels)
        return self._audio_out

    async def close(self) -> None:
        """Play what was sent, and close the session."""
        self._closed = True
        try:
            if self._audio_out is not None:
                await self._audio_out.aclose()
        finally:
            await self._session.aclose()

    def _check_open(self) -> None:
        if self._closed:
            raise anyio.ClosedResourceError(CLOSED)
