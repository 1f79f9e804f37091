"""The Markdown pages of the project: their links, their anchors and their blocks of code."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.helpers import ROOT

DOCS = ROOT / "docs"
FENCE = re.compile(r"^( *)```(\S*)[^\n]*\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
MARK = re.compile(r"<!-- (not run|run by):? (.+?) -->\n\Z")
LINK = re.compile(r"\]\(([^()\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A block of code of a page.

    Attributes:
        page: the file.
        language: sh, python, yaml, …
        text: the code.
        mark: "not run", "run by", or "".
        reason: why it is not run, or the test that runs it.
    """

    page: Path
    language: str
    text: str
    mark: str
    reason: str


def pages() -> list[Path]:
    """Return the Markdown files of the project, sorted."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
    done = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True)
    found = {ROOT / name for name in done.stdout.splitlines()}
    return sorted(path for path in found if path.is_file())


def blocks(page: Path, *languages: str) -> Iterator[Block]:
    """Yield the blocks of a page in these languages, in order."""
    text = page.read_text(encoding="utf-8")
    for found in FENCE.finditer(text):
        if found[2] in languages:
            mark = MARK.search(text[: found.start()])
            said = mark.groups() if mark else ("", "")
            yield Block(page, found[2], found[3], *said)


def snippets() -> list[Block]:
    """Return the shell and Python blocks of the README, the docs and the examples."""
    wanted = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    wanted += [ROOT / "examples/README.md", ROOT / "config/README.md"]
    wanted += [page for page in pages() if page.is_relative_to(DOCS)]
    return [block for page in wanted for block in blocks(page, "sh", "python")]


def commands(block: Block) -> list[str]:
    """Return the commands of a shell block, without their comments."""
    lines = [re.sub(r"(^|\s+)#.*", "", line) for line in block.text.splitlines()]
    return [line for line in lines if line]


def prose(page: Path) -> str:
    """Return the text of a page without its code."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    return re.sub(r"`[^`]*`", "", text)


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    seen: Counter[str] = Counter()
    found = set()
    for title in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        plain = re.sub(r"\]\([^)]*\)", "]", title).lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found


def links(page: Path) -> Iterator[tuple[str, Path, str]]:
    """Yield (link, file, anchor) of each link of a page that stays in the project."""
    for link in LINK.findall(prose(page)):
        if not re.match(r"[a-z]+:", link):
            path, _, anchor = link.partition("#")
            yield link, (page.parent / path).resolve() if path else page, anchor
