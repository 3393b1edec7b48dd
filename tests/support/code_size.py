"""Print the size of the package's code: lines, largest files, classes and functions.

python tests/support/code_size.py
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PACKAGE = Path(__file__).parents[2] / "beluga_livekit"
# Bases of classes without mutable state. Frozen attrs classes are exempt too.
EXEMPT_BASES = {"Enum", "IntEnum", "StrEnum", "NamedTuple", "Protocol", "TypedDict"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Size(NamedTuple):
    size: int
    where: str


def sizes_of_files(package: Path = PACKAGE) -> list[Size]:
    """Return the lines of each file."""
    paths = package.rglob("*.py")
    return sorted(Size(len(path.read_text().splitlines()), _name(path)) for path in paths)


def sizes_of_functions(package: Path = PACKAGE) -> list[Size]:
    """Return the lines of each function's body, without signature and docstring."""
    found = []
    for path, tree in _trees(package):
        for node in ast.walk(tree):
            if isinstance(node, Function):
                body = node.body[1:] if ast.get_docstring(node) is not None else node.body
                size = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
                found.append(Size(size, f"{_name(path)}:{node.lineno} {node.name}"))
    return sorted(found)


def sizes_of_classes(package: Path = PACKAGE) -> list[Size]:
    """Return the number of mutable attributes of each class that is not exempt."""
    found = []
    for path, tree in _trees(package):
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and not _is_exempt(node):
                where = f"{_name(path)}:{node.lineno} {node.name}"
                found.append(Size(len(mutable_attributes(node)), where))
    return sorted(found)


def mutable_attributes(node: ast.ClassDef) -> set[str]:
    """Return the names that methods assign on `self`, and the fields of an attrs class."""
    names = set()
    for method in [each for each in node.body if isinstance(each, Function)]:
        for target in _targets(method):
            if isinstance(target.value, ast.Name) and target.value.id in ("self", "cls"):
                names.add(target.attr)
    if any("attrs" in ast.unparse(decorator) for decorator in node.decorator_list):
        fields = [each for each in node.body if isinstance(each, ast.AnnAssign)]
        names |= {ast.unparse(each.target) for each in fields}
    return names


def _targets(method: Function) -> Iterator[ast.Attribute]:
    """Yield the attributes that a method assigns, in tuples and `with` blocks too."""
    for node in ast.walk(method):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node


def _is_exempt(node: ast.ClassDef) -> bool:
    bases = {ast.unparse(base).split("[")[0].split(".")[-1] for base in node.bases}
    frozen = any("frozen" in ast.unparse(decorator) for decorator in node.decorator_list)
    return frozen or bool(bases & EXEMPT_BASES)


def _trees(package: Path) -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted(package.rglob("*.py")):
        yield path, ast.parse(path.read_text())


def _name(path: Path) -> str:
    return str(path.relative_to(PACKAGE.parent))


def _show(title: str, sizes: list[Size], count: int = 10) -> None:
    print(f"\n{title}")
    for size, where in reversed(sizes[-count:]):
        print(f"{size:6} {where}")


if __name__ == "__main__":
    print(f"{sum(size for size, _ in sizes_of_files())} lines of {PACKAGE.name}")
    _show("Lines of a file", sizes_of_files())
    _show("Mutable attributes of a class", sizes_of_classes())
    _show("Lines of a function, without signature and docstring", sizes_of_functions())
