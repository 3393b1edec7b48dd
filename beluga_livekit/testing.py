"""`LoopbackRoom`: a room without a server, for tests; and a pytest fixture of one."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Self, Unpack

import attrs

from ._connection.loopback import LoopbackConnection, LoopbackHub
from ._errors import ConfigError, DisconnectReason
from ._open import SessionContextManager
from ._options import LoopbackKeywords, SessionOptions, check_names
from ._room.participants import Participant, ParticipantKind, ParticipantKindName

__all__ = ["LoopbackRoom"]


class LoopbackRoom:
    """A room without a server. Its members are sessions as `open_livekit` gives them.

    Members exchange audio through the SDK's native audio and through all of our stages, bounds and
    pacing. They join, leave, mute and send DTMF. The room mutes, removes and updates them, as a
    server does, and encrypts their tracks.

    ```python
    async with LoopbackRoom() as room, room.open("bot") as bot, room.open("caller") as caller:
        await caller.send(frame)
        frame = await bot.receive()
    ```

    Args:
        name: Name of the room.
        absorb: Whether a member's block absorbs its own `DisconnectedError` after a hang-up, as the
            block of a session on a server does. False: the error leaves the block, so that a test
            cannot pass with its asserts skipped.
    """

    def __init__(self, name: str = "loopback", *, absorb: bool = False) -> None:
        self.name = name
        self._absorb = absorb
        self._hub = LoopbackHub(name)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.delete()

    @property
    def participants(self) -> list[Participant]:
        """The members of the room."""
        return [member.participant for member in self._hub.connections.values()]

    def open(
        self,
        identity: str,
        *,
        name: str = "",
        kind: ParticipantKindName = ParticipantKind.STANDARD,
        attributes: Mapping[str, str] = MappingProxyType({}),
        metadata: str = "",
        **keywords: Unpack[LoopbackKeywords],
    ) -> SessionContextManager:
        """Return the context manager of a member's session. Entering it joins the room.

        Args:
            identity: Identity of the member. A member that has it already is removed.
            name: Display name.
            kind: Kind of the participant: "standard", "sip", "agent", ...
            attributes: Attributes, such as a token or a phone sets.
            metadata: Metadata; one string.
            **keywords: Those of `open_livekit` that concern receiving and sending.

        Raises:
            ConfigError: An argument is wrong.
        """
        if not (identity and isinstance(identity, str)):
            raise ConfigError(f"identity must be a string that is not empty, got {identity!r}")
        if kind not in (kinds := [str(each) for each in ParticipantKind]):
            raise ConfigError(f"kind must be one of {kinds}, got {kind!r}")
        check_names(keywords, LoopbackKeywords.__annotations__)
        participant = Participant(identity, name, ParticipantKind(kind), attributes, metadata)
        options = SessionOptions(**keywords)
        return SessionContextManager(
            lambda parts: LoopbackConnection(self._hub, participant, options, parts),
            options,
            absorb=self._absorb,
        )

    def update(
        self,
        identity: str,
        *,
        name: str | None = None,
        attributes: Mapping[str, str] | None = None,
        metadata: str | None = None,
    ) -> None:
        """Update a member, as a server does. An empty attribute is removed."""
        member = self._member(identity)
        was = member.participant
        merged = {**was.attributes, **(attributes or {})}
        updated = attrs.evolve(
            was,
            name=was.name if name is None else name,
            attributes={key: value for key, value in merged.items() if value},
            metadata=was.metadata if metadata is None else metadata,
        )
        member.update(updated)

    def mute(self, identity: str) -> None:
        """Mute a member, as a server does."""
        self._member(identity).set_muted(True)

    def unmute(self, identity: str) -> None:
        """Unmute a member."""
        self._member(identity).set_muted(False)

    def encrypt(self, identity: str) -> None:
        """Encrypt a member's track with a key that the other members do not have."""
        self._hub.undecryptable.add(self._member(identity).participant.identity)

    def decrypt(self, identity: str) -> None:
        """Give the other members the key of a member's track."""
        self._hub.undecryptable.discard(self._member(identity).participant.identity)

    def remove(self, identity: str) -> None:
        """Remove a member: its session ends, as by a hang-up."""
        self._member(identity).end(DisconnectReason.PARTICIPANT_REMOVED)

    def delete(self) -> None:
        """Delete the room: the sessions of all members end, as by a hang-up."""
        for member in list(self._hub.connections.values()):
            member.end(DisconnectReason.ROOM_DELETED)

    def _member(self, identity: str) -> LoopbackConnection:
        if identity not in self._hub.connections:
            known = ", ".join(map(repr, self._hub.connections)) or "none"
            raise ConfigError(f"identity must be a member's, got {identity!r}; members: {known}")
        return self._hub.connections[identity]


try:
    import pytest
except ImportError:  # without pytest there is a room, and no fixture
    pass
else:
    __all__ += ["loopback_room"]

    @pytest.fixture
    def loopback_room() -> Iterator[LoopbackRoom]:
        """A `LoopbackRoom`, deleted after the test: `async with loopback_room.open("bot")`."""
        room = LoopbackRoom()
        yield room
        room.delete()
