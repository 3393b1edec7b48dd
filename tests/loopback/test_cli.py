"""The command line without a server: a process, its output and its exit code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from support.audio import measure, tone
from support.cli import run_cli
from support.tokens import claims_of

from beluga_livekit._token import read_token


@pytest.mark.slow_audio
def test_demo_runs_without_server(tmp_path: Path) -> None:
    """Contract: `demo` measures a loopback and writes a WAV file."""
    done = run_cli("demo", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in (
        "Sent",
        "Received",
        "Delay",
        "Level",
        "Spectrum similarity",
        "Frames dropped",
    ):
        assert name in done.stdout
    sound, rate = soundfile.read(tmp_path / "beluga-demo.wav")
    assert rate == 16000
    assert len(sound) == 5 * 16000
    assert np.abs(sound).max() > 0.1


@pytest.mark.slow_audio
def test_demo_plays_file_of_any_format(tmp_path: Path) -> None:
    """Contract: `demo` takes a sound file of any rate and channels."""
    both = np.stack([tone(440, 1.0, 44100)] * 2, axis=1)
    soundfile.write(tmp_path / "in.wav", both, 44100)
    done = run_cli("demo", "in.wav", "-o", "out.wav", cwd=tmp_path)
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
def test_command_reports_mistake_in_one_line(
    tmp_path: Path, words: list[str], message: str
) -> None:
    """Contract: exit code 1 and one line, no traceback."""
    soundfile.write(tmp_path / "silent.wav", np.zeros(16000), 16000)
    done = run_cli(*words, cwd=tmp_path)
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
def test_command_rejects_wrong_arguments_before_running(words: list[str], message: str) -> None:
    """Contract: exit code 2 and the wrong argument, no traceback."""
    done = run_cli(*words)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize("agent", [True, False])
def test_token_command_mints_valid_token(agent: bool) -> None:
    """Contract: `token` prints a token that a session accepts."""
    words = ["token", "--room", "kitchen", "--identity", "ann", *(["--agent"] if agent else [])]
    done = run_cli(*words, env={"LIVEKIT_API_KEY": "devkey", "LIVEKIT_API_SECRET": "s" * 32})
    assert done.returncode == 0
    grants = read_token(done.stdout.strip())
    assert (grants.room, grants.identity, grants.can_publish) == ("kitchen", "ann", True)
    assert claims_of(done.stdout.strip())["kind"] == ("agent" if agent else "standard")
