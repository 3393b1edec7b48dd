"""`Playout`: the record of a play."""

from __future__ import annotations

import attrs

__all__ = ["Playout"]


def _microseconds(seconds: float) -> float:
    return round(seconds, 6)


@attrs.frozen
class Playout:
    """How much of a source was played.

    Attributes:
        played: Seconds of it that were played here: what is on its way, in the network and in the
            listener's buffers, about 0.1 s, counts as played.
        dropped: Seconds that it had already given and that were not played.
        interrupted: Whether `interrupt` ended it.
    """

    played: float = attrs.field(converter=_microseconds)
    dropped: float = attrs.field(converter=_microseconds)
    interrupted: bool
