"""Play sources: which of them run in a thread, how they are closed, and cancellation."""

from __future__ import annotations

import contextvars
import itertools
import logging
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any

import anyio
import attrs
import pytest
from support.waiting import wait_for

from beluga_livekit import ConfigError
from beluga_livekit._send import iterator_thread
from beluga_livekit._send.play_source import frames_of

pytestmark = pytest.mark.anyio

# Limit for a call that the event loop has to allow (s). In the event loop it would wait so long.
BLOCKED = 5.0

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")


def source_threads() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == iterator_thread.NAME]


async def count_samples(source: Any) -> int:
    """Return how many samples a source of bytes gives."""
    async with frames_of(source, 16000, 1) as frames:
        return sum([frame.samples_per_channel async for frame in frames])


@attrs.define
class Blocking:
    """A source that records its threads and context, and blocks in each call until `allowed`."""

    pieces: Iterable[bytes] = (b"12", b"3456")
    allowed: threading.Event = attrs.field(factory=threading.Event)
    calls: list[tuple[str, threading.Thread, str]] = attrs.field(factory=list)

    def record(self, call: str) -> None:
        self.calls.append((call, threading.current_thread(), variable.get()))
        assert self.allowed.wait(BLOCKED)

    def generate(self) -> Iterator[bytes]:
        try:
            for piece in self.pieces:
                self.record("next")
                yield piece
        finally:
            self.record("finally")

    def __iter__(self) -> Iterator[bytes]:
        self.record("iter")
        return self.generate()

    def close(self) -> None:
        self.record("close")


async def allow_from_loop(source: Blocking) -> None:
    await wait_for(lambda: source.calls)
    source.allowed.set()


@pytest.mark.parametrize("kind", ["iterable", "generator", "map"])
async def test_play_source_that_blocks_runs_in_one_thread(kind: str) -> None:
    """Contract: a lazy source is advanced and closed in one thread, with the caller's context."""
    variable.set("of the caller")
    source = Blocking()
    with anyio.fail_after(BLOCKED):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(allow_from_loop, source)
            pieces = {
                "iterable": source,
                "generator": source.generate(),
                "map": map(bytes, source.generate()),
            }
            assert await count_samples(pieces[kind]) == 3
    calls = [call for call, *_ in source.calls]
    if kind == "iterable":
        assert calls == ["iter", "next", "next", "finally", "close"]
    else:
        assert calls == ["next", "next", "finally"]
    threads = {thread for _, thread, _ in source.calls}
    assert len(threads) == 1
    assert threading.main_thread() not in threads
    assert {value for *_, value in source.calls} == {"of the caller"}
    await wait_for(lambda: not source_threads())


@pytest.mark.parametrize("make", [list, tuple, deque], ids=lambda make: make.__name__)
async def test_play_source_that_holds_its_pieces_starts_no_thread(
    make: Callable[[list[bytes]], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Contract: a sequence cannot block; a thread would cost 0.1 ms for each piece."""
    monkeypatch.setattr(threading.Thread, "start", None)
    assert await count_samples(make([b"1", b"234"])) == 2
    assert await count_samples(b"1234") == 2


async def test_play_source_is_advanced_only_when_asked() -> None:
    """Contract: nothing is prefetched, so that a source's position is exact."""
    given: list[int] = []

    def count() -> Iterator[bytes]:
        for number in range(5):
            given.append(number)
            yield b"12"

    async with frames_of(count(), 16000, 1) as frames:
        for number in range(3):
            await anext(frames)
            await anyio.sleep(0.01)  # A prefetch would come now.
            assert given == list(range(number + 1))


@pytest.mark.parametrize("error", [ValueError("broken"), SystemExit(3), StopIteration(4)])
async def test_error_of_play_source_in_thread_is_raised(error: BaseException) -> None:
    """Contract: the error of an iterator is raised unchanged; StopIteration as in a coroutine."""

    class Broken:
        def __iter__(self) -> Iterator[bytes]:
            raise error

    expected = RuntimeError if isinstance(error, StopIteration) else type(error)
    with pytest.raises(expected) as caught:
        await count_samples(Broken())
    assert expected is RuntimeError or caught.value is error
    await wait_for(lambda: not source_threads())


async def test_play_source_that_blocks_in_next_is_abandoned_when_cancelled(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Contract: cancelling returns at once; the thread closes the source later, and it is logged.

    `anyio.to_thread` would change threads, and closing then raises "generator already executing".
    """
    variable.set("of the caller")
    monkeypatch.setattr(iterator_thread, "WARN_AFTER", 0.05)
    source = Blocking()
    with anyio.fail_after(BLOCKED), anyio.CancelScope() as scope:
        async with frames_of(source, 16000, 1) as frames, anyio.create_task_group() as tasks:

            async def cancel() -> None:
                await wait_for(lambda: source.calls)
                scope.cancel()

            tasks.start_soon(cancel)
            await anext(frames)
    assert scope.cancelled_caught
    assert not source.allowed.is_set()
    await wait_for(lambda: "play source" in caplog.text)
    assert "has not returned" in caplog.text
    source.allowed.set()
    await wait_for(lambda: not source_threads())
    assert [call for call, *_ in source.calls] == ["iter", "next", "finally", "close"]


async def test_error_of_abandoned_play_source_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Contract: the error of a `next()` that no caller waits for is not lost."""
    allowed = threading.Event()
    entered = threading.Event()

    def broken() -> Iterator[bytes]:
        entered.set()
        allowed.wait(BLOCKED)
        yield from ()
        raise ValueError("after the end")

    with anyio.CancelScope() as scope:
        async with frames_of(broken(), 16000, 1) as frames, anyio.create_task_group() as tasks:

            async def cancel() -> None:
                await wait_for(entered.is_set)
                scope.cancel()

            tasks.start_soon(cancel)
            await anext(frames)
    allowed.set()
    await wait_for(lambda: "after the end" in caplog.text)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


async def test_play_source_is_closed_when_rejected() -> None:
    """Contract: a source that is never advanced is closed too, in its thread."""
    variable.set("of the caller")
    source = Blocking()
    source.allowed.set()
    with pytest.raises(ConfigError, match="sample_rate must be"):
        async with frames_of(source, 50, 1):
            pass
    assert [call for call, *_ in source.calls] == ["close"]


async def empty_pieces() -> AsyncIterator[bytes]:
    while True:
        yield b""


@pytest.mark.parametrize(
    "source",
    [itertools.repeat(b""), empty_pieces(), [b""] * 3_000_000],
    ids=["iterator", "async generator", "list"],
)
async def test_play_source_without_audio_can_be_cancelled(source: Any) -> None:
    """Contract: each piece taken is a checkpoint, so that an empty piece hangs nothing."""
    with anyio.move_on_after(0.05) as scope:
        await count_samples(source)
    assert scope.cancelled_caught
