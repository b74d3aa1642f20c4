"""The pages of the documentation, as sources: what no generator notices by itself."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def without_code(text: str) -> str:
    return re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as generators make them."""
    headings = re.findall(
        r"^#+ (.+)$", re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL), re.MULTILINE
    )
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}


def wrong_links(page: Path) -> list[str]:
    """Return the links and pictures of a page that lead nowhere in the project."""
    wrong = []
    for target in LINK.findall(without_code(page.read_text("utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        other = page.parent / name if name else page
        if not other.exists() or (anchor and other.suffix == ".md" and anchor not in anchors(other)):
            wrong.append(target)
    return wrong


def test_every_link_and_picture_leads_somewhere(project: Path) -> None:
    """To a file that is there, and to a heading of it."""
    pages = [project / "README.md", project / "CONTRIBUTING.md", *(project / "docs").rglob("*.md")]
    assert {page.name: wrong for page in pages if (wrong := wrong_links(page))} == {}


@pytest.mark.parametrize("target", ["none.md", "there.md#no-such-part", "pictures/none.png"])
def test_a_link_that_leads_nowhere_is_noticed(tmp_path: Path, target: str) -> None:
    """Whether page, part or picture."""
    (tmp_path / "there.md").write_text("# There\n\n## A part, of it\n")
    (tmp_path / "page.md").write_text(f"[a](there.md#a-part-of-it) [b]({target})\n")
    assert wrong_links(tmp_path / "page.md") == [target]


def test_every_page_is_in_the_navigation(project: Path) -> None:
    """And each page that is in it is there, once."""
    listed = re.findall(r"^ +- ([\w/-]+\.md)$", (project / "mkdocs.yml").read_text("utf-8"), re.MULTILINE)
    pages = [path.relative_to(project / "docs").as_posix() for path in (project / "docs").rglob("*.md")]
    assert sorted(listed) == sorted(pages)
