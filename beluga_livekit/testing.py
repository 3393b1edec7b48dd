"""`LoopbackRoom`: a whole room without a server, for tests."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType, TracebackType
from typing import Self, Unpack, get_type_hints

import attrs
import pytest

from ._connection.loopback import LoopbackConnection, LoopbackHub
from ._errors import ConfigError, DisconnectReason
from ._open import SessionContextManager
from ._options import ReceiveKeywords, SessionOptions, check_names
from ._room.participants import Participant, ParticipantKind

__all__ = ["LoopbackKeywords", "LoopbackRoom", "loopback_room"]


class LoopbackKeywords(ReceiveKeywords, total=False):
    """What a member's session may be asked for, as `open_livekit` documents it."""

    send_buffer: float
    subscription_timeout: float
    drain_timeout: float
    departure_timeout: float | None
    publish: bool


class LoopbackRoom:
    """A room without a server, whose members are sessions as `open_livekit` gives them.

    They hear each other through the SDK's own native audio, and all of our stages, bounds and
    pacing; they join, leave, mute and press keys, and the room does to them what a server can.

    ```python
    async with LoopbackRoom() as room, room.open("bot") as bot, room.open("caller") as caller:
        await caller.send(frame)
        frame = await bot.receive()
    ```

    Args:
        name: Of the room.
    """

    def __init__(self, name: str = "loopback") -> None:
        self.name = name
        self._hub = LoopbackHub(name)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.delete()

    @property
    def participants(self) -> list[Participant]:
        """Who is there."""
        return [member.participant for member in self._hub.members.values()]

    def open(
        self,
        identity: str,
        *,
        name: str = "",
        kind: str = ParticipantKind.STANDARD,
        attributes: Mapping[str, str] = MappingProxyType({}),
        metadata: str = "",
        **keywords: Unpack[LoopbackKeywords],
    ) -> SessionContextManager:
        """Returns the context manager of a member's session; entering it is joining.

        Args:
            identity: As which it is known; whoever has it already is thrown out.
            name: For display.
            kind: "standard", "sip", "agent", ...
            attributes: Such as a token or a phone would bring.
            metadata: The same as one string.
            **keywords: As for `open_livekit`, as far as they are about what is heard and sent.

        Raises:
            ConfigError: An argument is wrong.
        """
        if not (identity and isinstance(identity, str)):
            raise ConfigError(f"identity must be a string that is not empty, got {identity!r}")
        try:
            known = ParticipantKind(kind)
        except ValueError:
            raise ConfigError(
                f"kind must be one of {[str(each) for each in ParticipantKind]}, got {kind!r}"
            ) from None
        participant = Participant(identity, name, known, attributes, metadata)
        check_names(keywords, get_type_hints(LoopbackKeywords).keys())
        options = SessionOptions(**keywords)
        return SessionContextManager(
            lambda log: LoopbackConnection(self._hub, participant, options, log), options
        )

    def change(
        self,
        identity: str,
        *,
        name: str | None = None,
        attributes: Mapping[str, str] | None = None,
        metadata: str | None = None,
    ) -> None:
        """Changes what is given of a member, as a server does: an empty attribute is taken away."""
        member = self._member(identity)
        was = member.participant
        merged = {**was.attributes, **(attributes or {})}
        changed = attrs.evolve(
            was,
            name=was.name if name is None else name,
            attributes={key: value for key, value in merged.items() if value},
            metadata=was.metadata if metadata is None else metadata,
        )
        member.change(changed)

    def mute(self, identity: str) -> None:
        """Mutes a member, as a server does."""
        self._member(identity).mute(True)

    def unmute(self, identity: str) -> None:
        """Lets a member be heard again."""
        self._member(identity).mute(False)

    def remove(self, identity: str) -> None:
        """Throws a member out."""
        self._member(identity).end(DisconnectReason.PARTICIPANT_REMOVED)

    def delete(self) -> None:
        """Ends the room; all members have left."""
        self._hub.end(DisconnectReason.ROOM_DELETED)

    def _member(self, identity: str) -> LoopbackConnection:
        if identity not in self._hub.members:
            here = ", ".join(map(repr, self._hub.members)) or "nobody"
            raise ConfigError(f"nobody in the room is {identity!r}; here: {here}")
        return self._hub.members[identity]


@pytest.fixture
def loopback_room() -> LoopbackRoom:
    """A room without a server: `async with loopback_room.open("caller") as caller`."""
    return LoopbackRoom()
