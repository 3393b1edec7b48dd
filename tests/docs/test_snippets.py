"""The code in README.md and examples/ runs."""

from __future__ import annotations

import re
import runpy
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from pathlib import Path
from typing import Any

import anyio
import pytest
from support.audio import measure, receive_until_silent, samples_of, tone
from support.livekit_server import Server
from support.marks import measures_network_audio
from support.raw_participant import join_raw
from support.tokens import TokenFactory
from support.waiting import DEADLINE, wait_for

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]


README = (ROOT / "README.md").read_text()


SNIPPETS = [
    (section.splitlines()[0] + " " * number, code)  # A section may have several.
    for section in re.split(r"^## ", README, flags=re.M)[1:]
    for number, code in enumerate(re.findall(r"^```python\n(.*?)^```", section, re.M | re.S))
]


Main = Callable[..., Coroutine[Any, Any, None]]


def main_of(snippet: str) -> Main:
    namespace: dict[str, Any] = {}
    exec(compile(snippet, "README.md", "exec"), namespace)
    main: Main = next(value for name, value in namespace.items() if name in {"main", "test_it"})
    return main


def test_all_snippets_are_found() -> None:
    """Contract: every Python snippet of the README is run here."""
    assert len(SNIPPETS) == README.count("```python") == 9


@pytest.mark.parametrize("title", [title for title, code in SNIPPETS if "url" not in code])
async def test_snippet_runs_without_server(title: str) -> None:
    """Contract: snippets on a loopback run as printed."""
    with anyio.fail_after(DEADLINE):
        await main_of(dict(SNIPPETS)[title])()


@pytest.mark.slow_audio
@pytest.mark.parametrize(
    "title", [title for title, code in SNIPPETS if "url" in code and title != "Two lines"]
)
async def test_snippet_runs_in_room(server: Server, token: TokenFactory, title: str) -> None:
    """Contract: snippets with a URL run as printed."""
    finished = anyio.Event()

    async def run() -> None:
        with anyio.fail_after(DEADLINE):
            await main_of(dict(SNIPPETS)[title])(server.url, token("bot", room="voice-room"))
        finished.set()

    async with (
        anyio.create_task_group() as tasks,
        join_raw(server.url, token("peer", room="voice-room")) as peer,
    ):
        await peer.publish()
        tasks.start_soon(run)
        if title == "Everyone in the room":  # It ends when all participants have left.
            await wait_for(lambda: peer.room.remote_participants)
            await anyio.sleep(0.5)  # The snippet runs meanwhile.
        else:
            await finished.wait()


@pytest.mark.slow_audio
@pytest.mark.parametrize("source", ["README", "examples/echo.py"])
@measures_network_audio
async def test_echo_example_returns_audio(
    server: Server, token: TokenFactory, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Contract: the README's two lines and examples/echo.py return what they receive."""
    granted = token("bot", room="voice-room")
    monkeypatch.setenv("LIVEKIT_URL", server.url)
    monkeypatch.setenv("LIVEKIT_TOKEN", granted)
    async with (
        join_raw(server.url, token("peer", room="voice-room")) as peer,
        anyio.create_task_group() as tasks,
    ):
        await peer.publish()
        if source == "README":
            tasks.start_soon(main_of(dict(SNIPPETS)["Two lines"]), server.url, granted)
        else:
            tasks.start_soon(runpy.run_path(str(ROOT / source))["main"])
        async with aclosing(peer.frames()) as frames:
            tasks.start_soon(peer.play, tone(440, 1.0, 48000))
            received = measure(samples_of(await receive_until_silent(frames)), 48000, onset=0.5)
        assert received.frequency == pytest.approx(440, abs=1)
        assert received.duration == pytest.approx(1.0, abs=0.2)
        tasks.cancel_scope.cancel()
