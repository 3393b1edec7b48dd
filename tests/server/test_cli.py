"""The command line with a server: `demo` through a room, and `echo`."""

from __future__ import annotations

import signal
from pathlib import Path

import anyio
import pytest
import soundfile
from support.audio import measure, receive_until_silent, samples_of, tone
from support.cli import COMMAND, cli_environment, run_cli
from support.livekit_server import Server
from support.marks import measures_network_audio
from support.processes import run_process
from support.raw_participant import join_raw
from support.room_admin import RoomAdmin
from support.tokens import TokenFactory
from support.waiting import DEADLINE, wait_until_idle


@pytest.mark.slow_audio
@measures_network_audio
def test_demo_echoes_itself_through_room(server: Server, tmp_path: Path) -> None:
    """Contract: with a URL and a key, `demo` joins twice, as probe and as echo."""
    given = {
        "LIVEKIT_URL": server.url,
        "LIVEKIT_API_KEY": server.api_key,
        "LIVEKIT_API_SECRET": server.api_secret,
    }
    done = run_cli("demo", cwd=tmp_path, env=given)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.faults
def test_demo_fails_when_no_participant_echoes(
    server: Server, token: TokenFactory, tmp_path: Path
) -> None:
    """Contract: exit code 1 and the reason."""
    soundfile.write(tmp_path / "in.wav", tone(440, 0.5, 16000), 16000)
    given = {"LIVEKIT_URL": server.url, "LIVEKIT_TOKEN": token("probe")}
    done = run_cli("demo", "in.wav", cwd=tmp_path, env=given)
    assert done.returncode == 1
    assert "did not survive" in done.stdout
    assert "No participant echoed it" in done.stdout


@pytest.mark.anyio
@measures_network_audio
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_echo_returns_audio_until_signal(
    server: Server, token: TokenFactory, admin: RoomAdmin, number: signal.Signals
) -> None:
    """Contract: `echo` runs until SIGINT or SIGTERM, then leaves the room with exit code 0."""
    command = [*COMMAND, "echo"]
    env = cli_environment({"LIVEKIT_URL": server.url, "LIVEKIT_TOKEN": token("bot")})
    async with (
        join_raw(server.url, token("peer")) as peer,
        run_process(command, env=env) as echo,
    ):
        await peer.publish()
        async with anyio.create_task_group() as tasks:
            frames = peer.frames()

            async def play_when_idle() -> None:
                await wait_until_idle()
                await peer.play(tone(440, 1.0, 48000))

            tasks.start_soon(play_when_idle)
            received = measure(samples_of(await receive_until_silent(frames)), 48000, onset=0.5)
            await frames.aclose()
        assert received.frequency == pytest.approx(440, abs=1)
        assert received.duration == pytest.approx(1.0, abs=0.1)
        echo.send_signal(number)
        with anyio.fail_after(DEADLINE):
            assert await echo.wait() == 0
            while "bot" in await admin.identities():
                await anyio.lowlevel.checkpoint()


@pytest.mark.anyio
async def test_echo_ends_when_room_is_deleted(
    server: Server, token: TokenFactory, admin: RoomAdmin
) -> None:
    """Contract: a hang-up ends `echo` with exit code 0."""
    command = [*COMMAND, "echo"]
    env = cli_environment({"LIVEKIT_URL": server.url, "LIVEKIT_TOKEN": token("bot")})
    async with run_process(command, env=env) as echo:
        with anyio.fail_after(DEADLINE):
            assert echo.stdout is not None
            assert b"Echoing room" in await echo.stdout.receive()
            await admin.delete_room()
            assert await echo.wait() == 0
