"""Record a session's room events."""

from __future__ import annotations

from typing import Any

from beluga_livekit import LiveKitSession
from beluga_livekit.events import RoomEvent
from support.waiting import wait_for


class EventRecorder:
    """The room events of a session so far, in order."""

    def __init__(self) -> None:
        self.events: list[RoomEvent] = []

    async def record(self, session: LiveKitSession) -> None:
        """Append events until the session ends."""
        async with session.events() as events:
            async for event in events:
                self.events.append(event)

    async def wait_for(self, kind: type[Any], **fields: Any) -> Any:
        """Wait for an event, and remove it and all earlier ones."""
        await wait_for(lambda: self._find(kind, fields) is not None)
        at = self._find(kind, fields)
        assert at is not None
        event = self.events[at]
        del self.events[: at + 1]
        return event

    def _find(self, kind: type[Any], fields: dict[str, Any]) -> int | None:
        for at, event in enumerate(self.events):
            matches = all(getattr(event, name, None) == value for name, value in fields.items())
            if isinstance(event, kind) and matches:
                return at
        return None
