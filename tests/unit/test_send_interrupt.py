"""Epochs: how interrupts take turns, with a source and a pump that are fakes."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from beluga_livekit._send import interrupt as interrupt_module
from beluga_livekit._send.interrupt import Epoch, Epochs
from beluga_livekit._send.paced_source import Cut

pytestmark = pytest.mark.anyio


class FakeSource:
    """A source whose cut waits until it is let through."""

    def __init__(self) -> None:
        self.position = 7
        self.cuts = 0
        self.may_cut = anyio.Event()

    async def cut(self) -> Cut:
        self.cuts += 1
        await self.may_cut.wait()
        return Cut(100 * self.cuts, 0)


class Fake:
    """Epochs, their source, and a pump that is idle as soon as it is cancelled."""

    def __init__(self) -> None:
        self.source = FakeSource()
        source: Any = self.source
        self.finished = anyio.Event()
        self.epochs = Epochs(source, self.finished)
        self.replaced: list[tuple[str, int]] = []
        self.epochs_of_pump: list[Epoch] = []

    async def pump(self) -> None:
        while True:
            epoch = self.epochs.current
            self.epochs_of_pump.append(epoch)
            with epoch.scope:
                await anyio.sleep_forever()
            epoch.idle.set()
            await epoch.ended.wait()

    async def interrupt(self, name: str) -> None:
        try:
            await self.epochs.silence()
        finally:
            self.replaced.append((name, self.epochs.replace()))


async def test_interrupts_take_turns_in_order() -> None:
    """Contract: audio after the last one is played; each one ends an epoch of its own."""
    fake = Fake()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(fake.pump)
        for name in "abc":
            tasks.start_soon(fake.interrupt, name)
        await anyio.wait_all_tasks_blocked()
        assert (fake.source.cuts, fake.replaced) == (1, [])
        fake.source.may_cut.set()
        tasks.start_soon(fake.interrupt, "d")
        with anyio.fail_after(5):
            while len(fake.replaced) < 4:
                await anyio.lowlevel.checkpoint()
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert fake.replaced == [("a", 100), ("b", 200), ("c", 300), ("d", 400)]
    assert fake.epochs_of_pump[-1] is fake.epochs.current
    assert not fake.epochs.current.ended.is_set()


async def test_interrupt_waits_until_the_pump_is_idle() -> None:
    """Contract: the pump holds nothing old when the next epoch begins."""
    fake = Fake()
    fake.source.may_cut.set()
    epoch = fake.epochs.current
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(fake.interrupt, "a")
        await anyio.wait_all_tasks_blocked()
        assert epoch.scope.cancel_called
        assert not fake.replaced
        epoch.idle.set()
    assert fake.replaced == [("a", 100)]
    assert epoch.ended.is_set()


async def test_interrupts_are_bounded_by_one_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Contract: also those that wait for each other, of a source and a pump that hang."""
    monkeypatch.setattr(interrupt_module, "SILENCE_TIMEOUT", 0.2)
    fake = Fake()
    start = anyio.current_time()
    async with anyio.create_task_group() as tasks:
        for name in "abcde":
            tasks.start_soon(fake.interrupt, name)
    assert 0.2 <= anyio.current_time() - start < 0.5
    assert [position for _, position in fake.replaced] == [7] * 5


async def test_interrupt_does_not_wait_for_a_pump_that_has_finished() -> None:
    """Contract: a session that is left, or only receives, can be interrupted."""
    fake = Fake()
    fake.source.may_cut.set()
    fake.finished.set()
    with anyio.fail_after(5):
        for name in "ab":
            await fake.interrupt(name)
    assert len(fake.replaced) == 2
