"""The tests of loopback/test_mixing.py, with `room` of the server and real codecs."""

from __future__ import annotations

import pytest
from loopback.test_mixing import *  # noqa: F403 - a test added there runs here too
from loopback.test_mixing import check_participants_that_join_and_leave
from support.marks import measures_network_audio
from support.rooms import RoomUnderTest

pytestmark = [pytest.mark.anyio, pytest.mark.slow_audio, measures_network_audio]


@pytest.mark.parametrize(  # type: ignore[no-redef]
    ("count", "seconds"), [(4, 8), pytest.param(10, 60, marks=pytest.mark.soak)]
)
async def test_participants_join_and_leave_without_loss(
    room: RoomUnderTest, count: int, seconds: float
) -> None:
    """Contract: the same with fewer participants: each costs CPU for its codecs."""
    await check_participants_that_join_and_leave(room, count=count, seconds=seconds)
