"""Articles of a MediaWiki XML dump, as plain text in the order of the file."""

from __future__ import annotations

import contextlib
import itertools
import lzma
import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from prunegrid.common.data_formats import unpacked
from prunegrid.common.errors import PrunegridError, explained

ARTICLES = "0"
DROPPED_TAGS = {"ref", "table", "gallery", "math", "timeline", "references", "code", "score"}
# Sections of lists and links, with which articles end.
BACK_MATTER = {
    "see also",
    "references",
    "external links",
    "further reading",
    "notes",
    "footnotes",
    "bibliography",
    "sources",
    "citations",
    "notes and references",
}
NAMESPACED = re.compile(r"\s*:?\s*[A-Za-z][A-Za-z_-]*\s*:(?!\s)")
# Removed before the parse, which is then 3 times faster: they are most of a page's tags.
REFERENCES = re.compile(r"<ref\b[^>]*/>|<ref\b[^>]*>.*?</ref\s*>", re.DOTALL | re.IGNORECASE)
SECTION = re.compile(r"^==([^=\n]+)==[ \t]*$", re.MULTILINE)
SPACES = re.compile(r"[ \t\xa0]+")
QUOTES = re.compile(r"'{2,}")
BLANK_LINES = re.compile(r"\n\s*\n+")


def read(path: Path) -> Iterator[dict[str, str]]:
    """Yield {title, text} of each article, without redirects and other namespaces.

    Raises:
        PrunegridError: the file is truncated or no such dump.
    """
    damaged = PrunegridError(
        "not readable as a MediaWiki dump",
        where=str(path),
        expected="pages-articles XML, plain, .bz2, .gz or .xz",
        remedy="it may be truncated: delete it and download it again",
    )
    kinds = (ElementTree.ParseError, EOFError, OSError, KeyError, lzma.LZMAError)
    with explained(damaged, kinds), unpacked(path, "rb") as handle:
        for _, element in ElementTree.iterparse(handle):
            if _local_name(element) != "page":
                continue
            fields = {_local_name(child): child for child in element.iter()}
            is_article = fields["ns"].text == ARTICLES and "redirect" not in fields
            if is_article and "text" in fields:
                text = _plain(fields["text"].text or "")
                if text:
                    yield {"title": fields["title"].text or "", "text": text}
            element.clear()


def _local_name(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _plain(wikitext: str) -> str:
    """Return an article's running text: headings and paragraphs, each in a block of its own.

    Templates, tables, references, files, categories, links to other languages, and the closing
    sections of lists and links are left out.
    """
    import mwparserfromhell

    body = _without_back_matter(REFERENCES.sub("", wikitext))
    code = mwparserfromhell.parse(body, skip_style_tags=True)
    for tag in code.filter_tags(matches=lambda node: str(node.tag).lower() in DROPPED_TAGS):
        _remove(code, tag)
    for link in code.filter_wikilinks(matches=lambda node: NAMESPACED.match(str(node.title))):
        _remove(code, link)
    text = code.strip_code(normalize=True, collapse=True, keep_template_params=False)
    text = SPACES.sub(" ", QUOTES.sub("", text))
    lines = "\n".join(line.strip() for line in text.split("\n"))
    blocks = (block.strip() for block in BLANK_LINES.split(lines))
    return "\n\n".join(block for block in blocks if block)


def _without_back_matter(wikitext: str) -> str:
    """Return the page without the sections that hold lists and links instead of text."""
    bounds = [0, *(match.start() for match in SECTION.finditer(wikitext)), len(wikitext)]
    text = ""
    for start, end in itertools.pairwise(bounds):
        heading = SECTION.match(wikitext, start)
        if not heading or heading.group(1).strip().lower() not in BACK_MATTER:
            text += wikitext[start:end]
    return text


def _remove(code, node) -> None:
    """Remove a node, which may already be gone with another one that held it."""
    with contextlib.suppress(ValueError):
        code.remove(node)
