"""Python snippets of the README and the pages in docs/: found, run, and written for a type checker.

`python tests/support/snippets.py FOLDER` writes each snippet to a module of its own.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import attrs

__all__ = ["PAGES", "ROOT", "SNIPPETS", "Main", "Snippet"]

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

Main = Callable[..., Coroutine[Any, Any, None]]


@attrs.frozen
class Snippet:
    """A Python code block of a page.

    Attributes:
        page: Path of the page, relative to the root of the project.
        line: Line of the page that precedes the code.
        code: The code.
    """

    page: str
    line: int
    code: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def takes_room(self) -> bool:
        """Whether `main` takes the URL of a server and a token."""
        return "def main(url: str, token: str)" in self.code

    @property
    def reads_environment(self) -> bool:
        """Whether the code takes the URL of a server and a token from the environment."""
        return 'os.environ["LIVEKIT_URL"]' in self.code

    def load(self) -> Main | None:
        """Run the module of the snippet; return its `main` or its test, which is yet to run."""
        code = self.code.removesuffix("\nanyio.run(main)\n")
        namespace: dict[str, Any] = {"__name__": "snippet"}
        exec(compile("\n" * self.line + code, self.page, "exec"), namespace)
        mains = [value for name, value in namespace.items() if re.match(r"main$|test_", name)]
        return mains[0] if mains else None


def _snippets_of(page: Path) -> list[Snippet]:
    text = page.read_text()
    return [
        Snippet(str(page.relative_to(ROOT)), text.count("\n", 0, match.start(1)), match[1])
        for match in re.finditer(r"^```python\n(.*?)^```$", text, re.M | re.S)
    ]


SNIPPETS = [snippet for page in PAGES for snippet in _snippets_of(page)]


def write_all(folder: Path) -> None:
    """Write each snippet to a module of its own, named after its page and line."""
    for snippet in SNIPPETS:
        name = re.sub(r"\W", "_", str(snippet).replace(".md", "")).lower()
        (folder / f"{name}.py").write_text(snippet.code)


if __name__ == "__main__":
    write_all(Path(sys.argv[1]))
