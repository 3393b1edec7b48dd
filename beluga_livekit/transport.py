"""Beluga's provider surface: transports by name, and a session as a pipeline's transport.

| Beluga (Go)                          | here                                        |
|--------------------------------------|---------------------------------------------|
| `transport.New("livekit", cfg)`      | `transport.new("livekit", config)`          |
| `livekit.New(cfg)`                   | `LiveKitTransport(config)`                  |
| `transport.Register`, `List`         | `transport.register`, `providers`           |
| `transport.AsVoiceTransport(t)`      | `AsVoiceTransport(session)`                 |
"""

from __future__ import annotations

import difflib
import importlib.metadata
import inspect
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Literal, Protocol, overload

import anyio
import attrs
from anyio.abc import ByteSendStream

from ._errors import ConfigError, display_url
from ._lifecycle import CLOSED
from ._open import open_livekit
from ._session import LiveKitSession
from ._token import Token
from .audio.frame import AudioFrame
from .pcm import PcmSendStream

__all__ = [
    "AsVoiceTransport",
    "LiveKitTransport",
    "TransportConfig",
    "VoiceTransport",
    "new",
    "providers",
    "register",
]


def _mapping(_: object, attribute: Any, value: object) -> None:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{attribute.name} must be a mapping, got {type(value).__name__}")


@attrs.frozen
class TransportConfig:
    """What a transport provider is made from: Beluga's configuration, field by field.

    Attributes:
        url: Where the server is: ws, wss, http or https.
        token: An access token, or a callable returning one.
        sample_rate: Of the received frames, in Hz.
        channels: Of the received frames.
        extra: What only this provider knows: for LiveKit `room` and the keywords of
            `open_livekit`.
    """

    url: str = attrs.field(default="", repr=lambda url: repr(display_url(str(url))))
    token: Token = attrs.field(default="", repr=lambda token: "<token>" if token else "''")
    sample_rate: int = 16_000
    channels: int = 1
    extra: Mapping[str, Any] = attrs.field(factory=dict, validator=_mapping)


Factory = Callable[[TransportConfig], AbstractAsyncContextManager[Any, Any]]

ENTRY_POINTS = "beluga.transports"

# What TransportConfig has a field for cannot stand in its `extra` as well.
_FIELDS = {
    "url": "url",
    "token": "token",
    "sample_rate": "sample_rate",
    "num_channels": "channels",
    "channels": "channels",
}

_registered: dict[str, Factory] = {}


class LiveKitTransport(AbstractAsyncContextManager[LiveKitSession, bool]):
    """The LiveKit provider: checked when made, connected by `async with`, once.

    Args:
        config: `extra` may have `room` and any keyword of `open_livekit`.

    Raises:
        ConfigError: A field, or a key of `extra`, is wrong.
    """

    def __init__(self, config: TransportConfig) -> None:
        if not isinstance(config, TransportConfig):
            raise ConfigError(f"livekit: expected a TransportConfig, got {type(config).__name__}")
        known = [name for name in inspect.signature(open_livekit).parameters if name not in _FIELDS]
        for key in config.extra:
            if key in _FIELDS:
                raise ConfigError(
                    f"livekit: extra[{key!r}] has a field of its own: TransportConfig."
                    f"{_FIELDS[key]}"
                )
            if key not in known:
                near = difflib.get_close_matches(str(key), known, 1, 0.0)[0]
                raise ConfigError(f"livekit: unknown extra {key!r}: did you mean {near!r}?")
        self._session = open_livekit(
            config.url,
            config.token,
            sample_rate=config.sample_rate,
            num_channels=config.channels,
            **config.extra,
        )

    async def __aenter__(self) -> LiveKitSession:
        return await self._session.__aenter__()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        return await self._session.__aexit__(exc_type, error, traceback)


def register(name: str, factory: Factory) -> None:
    """Adds a provider; packages do so with an entry point of the group `beluga.transports`.

    Raises:
        ConfigError: The name is taken.
    """
    if name in _factories():
        raise ConfigError(f"transport: {name!r} is registered already")
    _registered[name] = factory


def providers() -> list[str]:
    """Returns the names that `new` knows, sorted."""
    return sorted(_factories())


@overload
def new(name: Literal["livekit"], config: TransportConfig) -> LiveKitTransport: ...
@overload
def new(name: str, config: TransportConfig) -> AbstractAsyncContextManager[Any, Any]: ...
def new(name: str, config: TransportConfig) -> AbstractAsyncContextManager[Any, Any]:
    """Makes a transport by its provider's name. It checks the configuration and opens nothing.

    Raises:
        ConfigError: There is no such provider, or it does not take this configuration.
    """
    factories = _factories()
    if name not in factories:
        known = ", ".join(sorted(factories))
        raise ConfigError(f"transport: unknown provider {name!r}; known: {known}")
    return factories[name](config)


def _factories() -> dict[str, Factory]:
    found: dict[str, Factory] = {"livekit": LiveKitTransport}
    for entry in importlib.metadata.entry_points(group=ENTRY_POINTS):
        found.setdefault(entry.name, _loading(entry))
    return found | _registered


def _loading(entry: importlib.metadata.EntryPoint) -> Factory:
    def make(config: TransportConfig) -> AbstractAsyncContextManager[Any, Any]:
        transport: AbstractAsyncContextManager[Any, Any] = entry.load()(config)
        return transport

    return make


class VoiceTransport(Protocol):
    """What a voice pipeline takes."""

    def recv(self) -> AsyncIterator[AudioFrame]:
        """Returns what is heard."""

    async def send(self, frame: AudioFrame) -> None:
        """Says a frame."""

    @property
    def audio_out(self) -> ByteSendStream:
        """Where raw PCM goes, in the transport's format and in chunks of any size."""

    async def close(self) -> None:
        """Ends it; a second time does nothing."""


class _AudioOut(PcmSendStream):
    """Leaves tx, which is the session's, open."""

    async def _close_tx(self) -> None:
        pass


class AsVoiceTransport:
    """A session as a `VoiceTransport`.

    After `close`, everything raises `anyio.ClosedResourceError`.
    """

    def __init__(self, session: LiveKitSession) -> None:
        self._session = session
        self._audio_out: PcmSendStream | None = None
        self._closed = False

    def recv(self) -> AsyncIterator[AudioFrame]:
        """Returns the session's rx, as the async iterator that it is."""
        self._check_open()
        return aiter(self._session.rx)

    async def send(self, frame: AudioFrame) -> None:
        """Sends a frame, as the session's tx does."""
        self._check_open()
        await self._session.send(frame)

    @property
    def audio_out(self) -> ByteSendStream:
        """A byte stream of its own into tx: closing it leaves `send` open."""
        self._check_open()
        if self._audio_out is None:
            rate, channels = self._session.sample_rate, self._session.num_channels
            tx = self._session.tx
            self._audio_out = _AudioOut(tx, sample_rate=rate, num_channels=channels)
        return self._audio_out

    async def close(self) -> None:
        """Plays out what was sent and closes the session."""
        self._closed = True
        try:
            if self._audio_out is not None:
                await self._audio_out.aclose()
        finally:
            await self._session.aclose()

    def _check_open(self) -> None:
        if self._closed:
            raise anyio.ClosedResourceError(CLOSED)
