"""`FirstSubscriber`: opens the gate when a participant that should receive the audio subscribes."""

import math
from collections.abc import Collection

import anyio

from .._options import SessionOptions
from .._room.participants import Participant
from .._room.state import RoomState
from .._sdk import rtc
from .._send.gate import PlaybackGate

# Grace for a subscriber to appear among the participants (s), where it may be a phone that rings.
# The SDK reports a participant without a track up to 3 s late, and a hidden one never.
APPEARANCE_GRACE = 0.3


class FirstSubscriber:
    """Opens the gate of a track at its first subscriber.

    Where the session selects participants, it has to be one of them, and none that still rings.
    The SDK reports the first subscription of a track, not whose it is. `restricts`: only selected
    participants may subscribe until then. That concerns all tracks of the local participant, so it
    is for rooms in which ours is the only one; elsewhere a selected participant has to be present.
    """

    def __init__(
        self, options: SessionOptions, room_state: RoomState, gate: PlaybackGate, *, restricts: bool
    ) -> None:
        self._options = options
        self._room_state = room_state
        self._gate = gate
        self._restricts = restricts and options.is_selective
        self._room: rtc.Room | None = None  # in which subscriptions are restricted
        self._allowed: Collection[str] | None = None  # the identities that may subscribe; None: all
        self._is_subscribed = False

    def begin(self, room: rtc.Room | None, *, restrict: bool = True) -> None:
        """Wait for a subscriber of a new track; called before it is published in a room."""
        self._is_subscribed = False
        self._gate.unsubscribed()
        if self._restricts and restrict:
            self._room, self._allowed = room, None
            self._update()

    def subscribed(self, participant: Participant | None = None) -> None:
        """Note a subscription, by this participant if that is known."""
        if participant is None or self._selects(participant):
            self._is_subscribed = True
            self._update()

    async def run(self) -> None:
        """Follow the participants that come, leave and answer."""
        while True:
            self._update()
            with anyio.move_on_after(APPEARANCE_GRACE if self._is_unknown else math.inf) as grace:
                await self._room_state.changed.wait()
            if grace.cancelled_caught:
                self._gate.subscribed()

    @property
    def _is_unknown(self) -> bool:
        """Whether a subscriber may be a participant that has yet to appear."""
        is_open = self._gate.is_subscribed or self._options.is_selective
        return self._is_subscribed and not is_open and not self._room_state.participants

    def _selects(self, participant: Participant) -> bool:
        return not self._options.is_selective or self._options.selects(participant)

    def _update(self) -> None:
        wanted = list(filter(self._options.selects, self._room_state.present_participants()))
        is_ringing = bool(wanted) and not any(each.has_answered for each in wanted)
        if not self._gate.is_subscribed:
            self._gate.set_ringing(is_ringing)
            is_wanted = bool(wanted) or self._room is not None or not self._options.is_selective
            if self._is_subscribed and is_wanted and not (is_ringing or self._is_unknown):
                self._gate.subscribed()
        if self._room is not None:
            self._restrict(self._room, {each.identity for each in wanted})

    def _restrict(self, room: rtc.Room, wanted: set[str]) -> None:
        """Allow the participants wanted, and those named, to subscribe; all behind the first."""
        if self._gate.is_subscribed:
            rtc.allow_subscribers(room, None)
            self._room = None
        elif self._allowed != (allowed := wanted | self._options.named_participants):
            rtc.allow_subscribers(room, allowed)
            self._allowed = allowed
