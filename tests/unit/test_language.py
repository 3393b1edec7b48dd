"""The language of docstrings, comments and test names: see the rules in CONTRIBUTING.md."""

from __future__ import annotations

import ast
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("beluga_livekit", "tests", "benchmarks", "examples")
FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
FILES.append(ROOT / "noxfile.py")

# A docstring begins with a verb, or says what a class is.
OPENERS = r"(?:what|who|whoever|whom|one|somebody|something)\b"
# Persons where a program object is meant, and words that the glossary replaces. A speaker is a
# participant who talks, which no test can check.
BANNED = """
    somebody someone nobody anybody everybody whoever whom whomever people company roster wiring
    lane lanes shed listener listeners told heard hears hear ear ears twin stands
    hold[s]?\\s+(?:\\w+\\s+)?up
"""
WORDS = re.compile(rf"\b(?:{'|'.join(BANNED.split())})\b", re.IGNORECASE)


def docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield the line and the text of each docstring, of attributes too."""
    blocks = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(tree):
        for statement in node.body if isinstance(node, blocks) else ():
            value = statement.value if isinstance(statement, ast.Expr) else None
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                yield statement.lineno, value.value


def comments(path: Path) -> Iterator[tuple[int, str]]:
    with tokenize.open(path) as file:
        for token in tokenize.generate_tokens(file.readline):
            if token.type == tokenize.COMMENT:
                yield token.start[0], token.string


def names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield the name of each test, as words."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                if name.startswith("test_"):
                    yield node.lineno, name.replace("_", " ")


def violations(path: Path) -> list[str]:
    tree, found = ast.parse(path.read_text()), []
    texts = list(docstrings(tree))
    for line, text in texts:
        if re.match(OPENERS, text.strip(), re.IGNORECASE):
            found.append(f"{line}: begins with {text.split()[0]!r}")
    for line, text in (*texts, *comments(path), *names(tree)):
        found += [f"{line}: {match[0]!r}" for match in WORDS.finditer(text)]
    return found


def test_violations_are_found(tmp_path: Path) -> None:
    """Contract: openers and banned words are found in docstrings, comments and test names."""
    path = tmp_path / "sample.py"
    path.write_text(
        'class A:\n    """What a reader sees."""\n    x = 1  # told later\n'
        'def test_nobody_reads():\n    """Hold nothing up."""\n'
    )
    assert violations(path) == [
        "2: begins with 'What'",
        "5: 'Hold nothing up'",
        "3: 'told'",
        "4: 'nobody'",
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_file_keeps_to_language(path: Path) -> None:
    """Contract: docstrings, comments and test names use the project's plain words."""
    assert violations(path) == []


TESTS = [path for path in FILES if path.name.startswith("test_")]


@pytest.mark.parametrize("path", TESTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_docstring_of_test_names_origin(path: Path) -> None:
    """Contract: each test says whether a contract, an SDK quirk or a regression requires it."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                if name.startswith("test_"):
                    origin = (ast.get_docstring(node) or "").partition(": ")[0]
                    assert origin in ("Contract", "SDK quirk", "Regression"), name
