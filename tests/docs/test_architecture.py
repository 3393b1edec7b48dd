"""The names in docs/architecture.md exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from support.snippets import ROOT

import beluga_livekit

PACKAGE = Path(beluga_livekit.__file__).parent
PAGE = (ROOT / "docs" / "architecture.md").read_text()


def names_in(path: Path) -> Iterator[str]:
    """Yield the functions and classes of a module, and the methods and attributes of these."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        if isinstance(node, ast.ClassDef):
            for inner in ast.walk(node):
                if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef):
                    yield f"{node.name}.{inner.name}"
                elif isinstance(inner, ast.Attribute) and isinstance(inner.ctx, ast.Store):
                    yield f"{node.name}.{inner.attr}"


def test_architecture_names_exist() -> None:
    """Contract: a reader finds each function of a diagram where the diagram says."""
    references = set(re.findall(r"\b([\w/]+\.py): (\w+(?:\.\w+)?)", PAGE))
    assert len(references) > 50
    missing = sorted(
        f"{path}: {name}"
        for path, name in references
        if not (PACKAGE / path).exists() or name not in set(names_in(PACKAGE / path))
    )
    assert not missing, "missing from the package:\n" + "\n".join(missing)


def test_architecture_layers_are_complete() -> None:
    """Contract: the table of layers has every module and folder of the package."""
    table = PAGE.partition("## Layers")[2].partition("Calls follow")[0]
    listed = {name.rstrip("/") for name in re.findall(r"`(\w+(?:\.py|/))`", table)}
    present = {
        path.name
        for path in PACKAGE.iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert listed | {"__init__.py", "__main__.py"} >= present, sorted(present - listed)
