"""The README and the pages: links, language, completeness of the reference."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path

import pytest
from support.snippets import PAGES, ROOT

import beluga_livekit

PROSE = [*PAGES, *(ROOT / name for name in ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"))]
PUBLIC_MODULES = ("", ".audio", ".events", ".pcm", ".testing", ".transport")
# Words that the glossary of CONTRIBUTING.md replaces.
BANNED = re.compile(
    r"\b(somebody|someone|nobody|anybody|everybody|whoever|whom|whomever|people|company|roster"
    r"|wiring|lane|lanes|shed|listener|listeners|told|heard|hear|hears|ear|ears|twin|stands"
    r"|hold up)\b",
    re.I,
)


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def anchors_of(page: Path) -> set[str]:
    """Return the anchors of a page's headings, made as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


def test_readme_is_short() -> None:
    """Contract: a newcomer reads it to the end."""
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


@pytest.mark.parametrize("page", PROSE, ids=name_of)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    """Contract: no link into the repository is broken."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        if anchor:
            assert anchor in anchors_of(linked), target


@pytest.mark.parametrize("page", PROSE, ids=name_of)
def test_page_uses_the_glossary(page: Path) -> None:
    """Contract: one word for one concept, as CONTRIBUTING.md has them."""
    assert not BANNED.findall(page.read_text())


def test_every_page_is_in_the_index() -> None:
    """Contract: each page can be reached from docs/index.md."""
    docs = ROOT / "docs"
    text = (docs / "index.md").read_text() + (docs / "reference" / "index.md").read_text()
    pages = [page.name for page in PAGES if page.parent != ROOT and page.name != "index.md"]
    assert not [name for name in pages if f"{name})" not in text]


def test_benchmarks_in_pages_exist() -> None:
    """Contract: each command that a page names can be run."""
    text = "".join(page.read_text() for page in PAGES)
    scripts = set(re.findall(r"python ((?:benchmarks|examples|tests)/[\w/]+\.py)", text))
    assert scripts
    assert not [script for script in scripts if not (ROOT / script).exists()]


@pytest.mark.parametrize("module", PUBLIC_MODULES)
def test_reference_names_every_public_name(module: str) -> None:
    """Contract: the reference is complete."""
    text = "".join(page.read_text() for page in (ROOT / "docs" / "reference").glob("*.md"))
    names = importlib.import_module("beluga_livekit" + module).__all__
    assert not [name for name in names if not re.search(rf"\b{name}\b", text)]


def test_reference_names_every_keyword_and_member() -> None:
    """Contract: the page of the session is complete."""
    text = (ROOT / "docs" / "reference" / "session.md").read_text()
    keywords = inspect.signature(beluga_livekit.open_livekit).parameters
    members = [name for name in vars(beluga_livekit.LiveKitSession) if not name.startswith("_")]
    missing = [name for name in (*keywords, *members) if not re.search(rf"\b{name}\b", text)]
    assert not missing


def test_ci_runs_the_second_command_of_the_readme() -> None:
    """Contract: what CI checks is what a developer is asked to run."""
    (command,) = re.findall(r"^pip install nox.*$", (ROOT / "README.md").read_text(), re.M)
    for path in (".ci/run", ".github/workflows/ci.yml"):
        assert command in (ROOT / path).read_text()
