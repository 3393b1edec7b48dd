"""The layers of the package, and what may be imported where."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import beluga_livekit
from beluga_livekit.audio import frame

PACKAGE = Path(beluga_livekit.__file__).parent
# Each may import itself and what stands before it.
LAYERS = (
    *("_errors", "_logging", "_tasks", "audio", "_streams", "_room", "_options"),
    *("_token", "_sdk", "_receive", "_send", "_connection", "_lifecycle", "_session", "_open"),
    *("events", "pcm", "testing", "transport", "_cli"),
)


def imports_of(path: Path) -> set[str]:
    """Return the modules that a file imports, as dotted names; type-checking imports count too."""
    package = ["beluga_livekit", *path.relative_to(PACKAGE).parts[:-1]]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *(node.module.split(".") if node.module else [])])
            found |= {f"{module}.{alias.name}" for alias in node.names}
    return found


FILES = {path: imports_of(path) for path in sorted(PACKAGE.rglob("*.py"))}


# `AudioFrame.to_rtc` imports the SDK when called, and for the type checker.
TO_RTC = PACKAGE / "audio" / "frame.py"


def layer_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_file_imports_only_its_own_and_earlier_layers(path: Path) -> None:
    layer = layer_of(path)
    if layer in ("__init__", "__main__"):
        return
    allowed = {*LAYERS[: LAYERS.index(layer) + 1], "__version__"}
    own = {name.split(".")[1] for name in FILES[path] if name.startswith("beluga_livekit.")}
    assert own <= allowed


def test_audio_imports_numpy_and_errors_only() -> None:
    allowed = {"beluga_livekit._errors", "beluga_livekit.audio", "numpy", "attrs"}
    for path, names in FILES.items():
        if layer_of(path) == "audio":
            for name in names - ({"livekit.rtc"} if path == TO_RTC else set()):
                known = name.split(".")[0] in sys.stdlib_module_names
                assert known or any(name.startswith(each) for each in allowed), (path, name)


def test_only_sdk_imports_livekit_rtc() -> None:
    users = {path for path, names in FILES.items() if "livekit.rtc" in " ".join(names)}
    assert {layer_of(path) for path in users - {TO_RTC}} == {"_sdk"}
    assert not hasattr(frame, "rtc")


def test_package_imports_no_extra() -> None:
    names = " ".join(FILES[PACKAGE / "__init__.py"])
    assert not [each for each in ("pcm", "transport", "testing", "_cli") if each in names]


def test_importing_starts_nothing_native() -> None:
    code = (
        "import beluga_livekit, sys, threading\n"
        "from livekit.rtc._ffi_client import FfiClient\n"
        "assert FfiClient._instance is None\n"
        "assert threading.active_count() == 1\n"
        "assert not {'typer', 'soundfile', 'trio'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
