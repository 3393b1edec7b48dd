"""`LossyStream`: a writer that never waits, and may replace what is not read yet."""

from __future__ import annotations

from collections.abc import Iterator

import anyio
import pytest
from anyio.abc import TaskStatus

from beluga_livekit._streams import LossyStream

pytestmark = pytest.mark.anyio


@pytest.fixture
def stream() -> Iterator[LossyStream[int]]:
    stream = LossyStream[int]()
    yield stream
    stream.close()
    if hasattr(stream, "rx"):
        stream.rx.close()


def read_all(stream: LossyStream[int]) -> list[int]:
    return [stream.rx.receive_nowait() for _ in range(stream.unread)]


async def test_lossy_stream_put_never_waits(stream: LossyStream[int]) -> None:
    """Contract: the writer never waits for a reader."""
    for item in range(10_000):
        stream.put(item)
    assert stream.unread == 10_000
    assert read_all(stream) == list(range(10_000))


async def test_lossy_stream_rewrite_replaces_the_unread_items(stream: LossyStream[int]) -> None:
    """Contract: rewrite changes all unread items in one step."""
    for item in range(5):
        stream.put(item)
    assert stream.rx.receive_nowait() == 0
    stream.rewrite(lambda items: [-len(items), *items[2:]])
    assert read_all(stream) == [-4, 3, 4]


async def test_lossy_stream_rewrite_hands_items_to_a_waiting_reader(
    stream: LossyStream[int],
) -> None:
    """Contract: an empty buffer may have waiting readers; they receive the items in order."""
    received: list[int] = []

    async def read(*, task_status: TaskStatus[None]) -> None:
        task_status.started()
        received.append(await stream.rx.receive())

    async with anyio.create_task_group() as tasks:
        await tasks.start(read)
        await anyio.wait_all_tasks_blocked()
        stream.rewrite(lambda items: [*items, 1, 2])
    assert received == [1]
    assert read_all(stream) == [2]


async def test_lossy_stream_cancelled_reader_takes_no_item(stream: LossyStream[int]) -> None:
    """Contract: an item handed to a cancelled reader stays in the stream."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stream.rx.receive)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
        stream.put(1)
        stream.put(2)
        stream.rewrite(reversed)
    assert read_all(stream) == [2, 1]


async def test_lossy_stream_has_reader_until_the_last_clone_is_closed(
    stream: LossyStream[int],
) -> None:
    """Contract: clones keep the stream alive."""
    clone = stream.rx.clone()
    stream.rx.close()
    assert stream.has_reader
    clone.close()
    assert not stream.has_reader
    stream.put(1)  # the writer needs no reader


async def test_lossy_stream_close_keeps_unread_items(stream: LossyStream[int]) -> None:
    """Contract: unread items precede EndOfStream."""
    stream.put(1)
    stream.close()
    assert await stream.rx.receive() == 1
    with pytest.raises(anyio.EndOfStream):
        await stream.rx.receive()


@pytest.mark.parametrize("clone", [False, True])
async def test_lossy_stream_warns_and_has_no_reader_when_its_rx_is_forgotten(
    stream: LossyStream[int], clone: bool
) -> None:
    """Contract: a forgotten end warns as anyio's do, and is no reader any more."""
    rx = stream.rx.clone() if clone else stream.rx
    if clone:
        stream.rx.close()
    stream.disown_rx()
    assert stream.has_reader
    with pytest.warns(ResourceWarning, match="Unclosed"):
        del rx
    assert not stream.has_reader
