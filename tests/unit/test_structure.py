"""The structure of the package: layers of imports, and the size of its parts."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.code_size import Size, sizes_of_classes, sizes_of_files, sizes_of_functions

import beluga_livekit
from beluga_livekit.audio import frame

PACKAGE = Path(beluga_livekit.__file__).parent
# Each layer may import itself and those before it.
LAYERS = (
    *("_errors", "_logging", "_tasks", "audio", "_streams", "_room", "_options"),
    *("_token", "_sdk", "_receive", "_send", "_connection", "_lifecycle", "_session", "_open"),
    *("events", "pcm", "testing", "transport", "_cli"),
)
# Limits of size. A file, class or function beyond them has more than one task.
MAX_FILE_LINES = 350
MAX_MUTABLE_ATTRIBUTES = 12
MAX_FUNCTION_LINES = 40


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
    """Contract: imports go one way."""
    layer = layer_of(path)
    if layer in ("__init__", "__main__"):
        return
    allowed = {*LAYERS[: LAYERS.index(layer) + 1], "__version__"}
    own = {name.split(".")[1] for name in FILES[path] if name.startswith("beluga_livekit.")}
    assert own <= allowed


def test_audio_imports_numpy_and_errors_only() -> None:
    """Contract: `audio` can be used without the SDK."""
    allowed = {"beluga_livekit._errors", "beluga_livekit.audio", "numpy", "attrs"}
    for path, names in FILES.items():
        if layer_of(path) == "audio":
            for name in names - ({"livekit.rtc"} if path == TO_RTC else set()):
                known = name.split(".")[0] in sys.stdlib_module_names
                assert known or any(name.startswith(each) for each in allowed), (path, name)


def test_only_sdk_imports_livekit_rtc() -> None:
    """Contract: only `_sdk` touches the SDK."""
    users = {path for path, names in FILES.items() if "livekit.rtc" in " ".join(names)}
    assert {layer_of(path) for path in users - {TO_RTC}} == {"_sdk"}
    assert not hasattr(frame, "rtc")


def test_package_imports_no_extra() -> None:
    """Contract: importing the package needs no optional dependency."""
    names = " ".join(FILES[PACKAGE / "__init__.py"])
    assert not [each for each in ("pcm", "transport", "testing", "_cli") if each in names]


def test_importing_starts_nothing_native() -> None:
    """Contract: importing starts no thread and no native code."""
    code = (
        "import beluga_livekit, sys, threading\n"
        "from livekit.rtc._ffi_client import FfiClient\n"
        "assert FfiClient._instance is None\n"
        "assert threading.active_count() == 1\n"
        "assert not {'typer', 'soundfile', 'trio'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


@pytest.mark.xfail(strict=False, reason="remove this line when the package is within its limits")
@pytest.mark.parametrize(
    ("measure", "limit"),
    [
        (sizes_of_files, MAX_FILE_LINES),
        (sizes_of_classes, MAX_MUTABLE_ATTRIBUTES),
        (sizes_of_functions, MAX_FUNCTION_LINES),
    ],
)
def test_package_keeps_size_limits(measure: Callable[[], list[Size]], limit: int) -> None:
    """Contract: limits of lines and of state, as support/code_size.py prints them."""
    assert [each for each in measure() if each.size > limit] == []
