"""`Playout`: the record of a play."""

import attrs


def _microseconds(seconds: float) -> float:
    return round(seconds, 6)


@attrs.frozen
class Playout:
    """How much of a play source was played.

    `played + muted + dropped` is what the source had given.

    Attributes:
        played: Seconds of the source that left this process, published and not muted. Audio in the
            network and in remote buffers (about 0.1 s) counts as played.
        muted: Seconds that were played while the track was muted, so that nothing was received.
        dropped: Seconds that the source had given and that were not played.
        interrupted: Whether `interrupt` ended the playback.
    """

    played: float = attrs.field(converter=_microseconds)
    muted: float = attrs.field(converter=_microseconds)
    dropped: float = attrs.field(converter=_microseconds)
    interrupted: bool
