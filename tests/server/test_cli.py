"""The command line, as it is typed: a process of its own, its output and its exit code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import anyio
import numpy as np
import pytest
import soundfile
from conftest import Admin, MakeToken
from support import peers
from support.audio import DEADLINE, calm, hear, measure, samples_of, tone
from support.livekit_server import Server

from beluga_livekit._token import _claims, read_token

TIMEOUT = 60
NAMES = ("LIVEKIT_URL", "LIVEKIT_TOKEN", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET")


def environment(given: Mapping[str, str]) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if name not in NAMES}
    return clean | {"COLUMNS": "200", **given}


def run(
    *words: str, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "beluga_livekit", *words]
    return subprocess.run(
        command,
        env=environment(env or {}),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )


@pytest.mark.once
def test_demo_needs_nothing_else(tmp_path: Path) -> None:
    done = run("demo", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("Sent", "Received", "Delay", "Level", "Spectrum similarity", "Frames dropped"):
        assert name in done.stdout
    sound, rate = soundfile.read(tmp_path / "beluga-demo.wav")
    assert rate == 16000
    assert len(sound) == 5 * 16000
    assert np.abs(sound).max() > 0.1


@pytest.mark.once
def test_demo_sends_a_file_of_any_format(tmp_path: Path) -> None:
    both = np.stack([tone(440, 1.0, 44100)] * 2, axis=1)
    soundfile.write(tmp_path / "in.wav", both, 44100)
    done = run("demo", "in.wav", "-o", "out.wav", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    sound, rate = soundfile.read(tmp_path / "out.wav", dtype="int16")
    assert measure(sound, rate).frequency == pytest.approx(440, abs=1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["demo", "silent.wav"], "holds no sound"),
        (["demo", "--url", "ws://127.0.0.1:1"], "Token is required"),
        (["demo", "--url", "ws://127.0.0.1:1", "--token", "x"], "no JWT"),
        (["echo", "--url", "nowhere", "--token", "x"], "must look like wss://"),
    ],
)
def test_mistakes_are_told_in_one_line(tmp_path: Path, words: list[str], message: str) -> None:
    soundfile.write(tmp_path / "silent.wav", np.zeros(16000), 16000)
    done = run(*words, cwd=tmp_path)
    assert done.returncode == 1
    assert message in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["demo", "missing.wav"], "does not exist"),
        (["demo", "-o", "missing/out.wav"], "must be a .wav file in an existing folder"),
        (["demo", "-o", "out.mp4"], "must be a .wav file in an existing folder"),
        (["token", "--api-key", "k", "--api-secret", "s", "--room", ""], "must not be empty"),
        (["token", "--api-key", "k", "--api-secret", "s", "--hours", "inf"], "--hours"),
        (["echo"], "--url"),
    ],
)
def test_wrong_words_are_told_before_anything_is_done(words: list[str], message: str) -> None:
    done = run(*words)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize("agent", [True, False])
def test_token_mints_what_a_session_takes(agent: bool) -> None:
    words = ["token", "--room", "kitchen", "--identity", "ann", *(["--agent"] if agent else [])]
    done = run(*words, env={"LIVEKIT_API_KEY": "devkey", "LIVEKIT_API_SECRET": "s" * 32})
    assert done.returncode == 0
    grants = read_token(done.stdout.strip())
    assert (grants.room, grants.identity, grants.can_publish) == ("kitchen", "ann", True)
    assert _claims(done.stdout.strip())["kind"] == ("agent" if agent else "standard")


@pytest.mark.once
@pytest.mark.flaky(reruns=2)  # see test_room.py
def test_demo_through_a_real_room_brings_its_own_echo(server: Server, tmp_path: Path) -> None:
    given = {
        "LIVEKIT_URL": server.url,
        "LIVEKIT_API_KEY": server.api_key,
        "LIVEKIT_API_SECRET": server.api_secret,
    }
    done = run("demo", cwd=tmp_path, env=given)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.fault
def test_demo_through_a_room_where_nobody_echoes_fails(
    server: Server, token: MakeToken, tmp_path: Path
) -> None:
    soundfile.write(tmp_path / "in.wav", tone(440, 0.5, 16000), 16000)
    given = {"LIVEKIT_URL": server.url, "LIVEKIT_TOKEN": token("probe")}
    done = run("demo", "in.wav", cwd=tmp_path, env=given)
    assert done.returncode == 1
    assert "did not survive" in done.stdout
    assert "No participant echoed it" in done.stdout


@pytest.mark.anyio
@pytest.mark.flaky(reruns=2)  # see test_room.py
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_echo_echoes_a_raw_participant_until_it_is_stopped(
    server: Server, token: MakeToken, admin: Admin, number: signal.Signals
) -> None:

    command = [sys.executable, "-m", "beluga_livekit", "echo"]
    env = environment({"LIVEKIT_URL": server.url, "LIVEKIT_TOKEN": token("bot")})
    async with (
        peers.join(server.url, token("peer")) as peer,
        await anyio.open_process(command, env=env) as echo,
    ):
        await peer.publish()
        async with anyio.create_task_group() as tasks:
            frames = peer.frames()

            async def speak() -> None:
                await calm()
                await peer.say(tone(440, 1.0, 48000))

            tasks.start_soon(speak)
            heard = measure(samples_of(await hear(frames)), 48000, onset=0.5)
            await frames.aclose()
        assert heard.frequency == pytest.approx(440, abs=1)
        assert heard.duration == pytest.approx(1.0, abs=0.1)
        echo.send_signal(number)
        with anyio.fail_after(DEADLINE):
            assert await echo.wait() == 0
            while "bot" in await admin.identities():
                await anyio.sleep(0.02)


@pytest.mark.anyio
async def test_echo_ends_with_its_room(server: Server, token: MakeToken, admin: Admin) -> None:

    command = [sys.executable, "-m", "beluga_livekit", "echo"]
    env = environment({"LIVEKIT_URL": server.url, "LIVEKIT_TOKEN": token("bot")})
    async with await anyio.open_process(command, env=env) as echo:
        with anyio.fail_after(DEADLINE):
            assert echo.stdout is not None
            assert b"Echoing room" in await echo.stdout.receive()  # it is in
            await admin.delete_room()
            assert await echo.wait() == 0
