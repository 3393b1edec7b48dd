"""The snippets of the README and of docs/, and the examples, run as shown.

The nox session `types` checks their types.
"""

from __future__ import annotations

import runpy
from contextlib import aclosing

import anyio
import pytest
from support.audio import measure, receive_until_silent, samples_of, tone
from support.livekit_server import Server
from support.marks import measures_network_audio
from support.raw_participant import join_raw
from support.snippets import PAGES, ROOT, SNIPPETS, Main, Snippet
from support.tokens import TokenFactory
from support.waiting import DEADLINE, wait_for

pytestmark = pytest.mark.anyio

ROOM = "voice-room"  # the room of all snippets

ALONE = [each for each in SNIPPETS if not (each.takes_room or each.reads_environment)]
IN_A_ROOM = [each for each in SNIPPETS if each.takes_room]
ECHOES: list[Snippet | str] = [each for each in SNIPPETS if each.reads_environment]
ECHOES += [str(path.relative_to(ROOT)) for path in sorted((ROOT / "examples").glob("*.py"))]


def test_every_snippet_is_run() -> None:
    """Contract: no Python block of a page is left out."""
    blocks = sum(page.read_text().count("```py") for page in PAGES)
    echoes = sum(isinstance(each, Snippet) for each in ECHOES)
    assert len(SNIPPETS) == blocks == len(ALONE) + len(IN_A_ROOM) + echoes


@pytest.mark.parametrize("snippet", ALONE, ids=str)
async def test_snippet_without_server_runs(snippet: Snippet) -> None:
    """Contract: a snippet runs as shown."""
    with anyio.fail_after(DEADLINE):
        if (main := snippet.load()) is not None:
            await main()


@pytest.mark.slow_audio
@pytest.mark.parametrize("snippet", IN_A_ROOM, ids=str)
async def test_snippet_in_room_runs(server: Server, token: TokenFactory, snippet: Snippet) -> None:
    """Contract: a snippet that takes a URL and a token runs as shown."""
    main = snippet.load()
    assert main is not None
    over = anyio.Event()

    async def run(main: Main) -> None:
        with anyio.fail_after(DEADLINE):
            await main(server.url, token("bot", room=ROOM))
        over.set()

    async with (
        anyio.create_task_group() as tasks,
        join_raw(server.url, token("peer", room=ROOM)) as peer,
    ):
        await peer.publish()
        tasks.start_soon(run, main)
        if "departure_timeout" in snippet.code:  # ends when the peer has left
            await wait_for(lambda: peer.room.remote_participants)
            await anyio.sleep(0.5)
        else:
            await over.wait()


@pytest.mark.slow_audio
@measures_network_audio
@pytest.mark.parametrize("source", ECHOES, ids=str)
async def test_echo_sends_tone_back(
    server: Server, token: TokenFactory, source: Snippet | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Contract: the echo bots of the README and of examples/ return what they receive."""
    monkeypatch.setenv("LIVEKIT_URL", server.url)
    monkeypatch.setenv("LIVEKIT_TOKEN", token("bot", room=ROOM))
    main: Main | None
    if isinstance(source, Snippet):
        main = source.load()
    else:
        main = runpy.run_path(str(ROOT / source))["main"]
    assert main is not None
    async with (
        join_raw(server.url, token("peer", room=ROOM)) as peer,
        anyio.create_task_group() as tasks,
    ):
        await peer.publish()
        tasks.start_soon(main)
        async with aclosing(peer.frames()) as frames:
            tasks.start_soon(peer.play, tone(440, 1.0, 48000))
            received = measure(samples_of(await receive_until_silent(frames)), 48000, onset=0.5)
        assert received.frequency == pytest.approx(440, abs=1)
        assert received.duration == pytest.approx(1.0, abs=0.2)
        tasks.cancel_scope.cancel()
