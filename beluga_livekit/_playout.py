"""`Playout`: the record of a play."""

import attrs


def _microseconds(seconds: float) -> float:
    return round(seconds, 6)


@attrs.frozen
class Playout:
    """How much of a play source was played.

    Attributes:
        played: Seconds of the source that left this process. Audio in the network and in remote
            buffers (about 0.1 s) counts as played.
        dropped: Seconds that the source had given and that were not played.
        interrupted: Whether `interrupt` ended the playback.
    """

    played: float = attrs.field(converter=_microseconds)
    dropped: float = attrs.field(converter=_microseconds)
    interrupted: bool
