"""Numbers, names and section citations of a text, and the share of them that a source has too.

All by rules on the surface of the text; what they miss is said at each function.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection
from decimal import Decimal

from prunegrid.evaluation.text_analysis.words import split_sentences, words

_NUMBER = re.compile(r"(?<!\w)(?<!\d\.)(?:\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?)")
_SPELLED = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen
fifteen sixteen seventeen eighteen nineteen twenty"""
_TENS = "thirty forty fifty sixty seventy eighty ninety"
_SPOKEN = {word: str(value) for value, word in enumerate(_SPELLED.split())}
_SPOKEN |= {word: str(10 * ten) for ten, word in enumerate(_TENS.split(), start=3)}

_PLACE = r"(\d+[a-z]{0,3}(?:[-–]\d+[a-z]{0,3})?)((?:\([0-9a-z]{1,5}\))*)"
_CODE = re.compile(
    rf"(?<!\w)(\d+)\s+U\.?\s?S\.?\s?(?:C\b\.?|Code\b)\s*(?:§+\s*|sec(?:tion|\.)\s*)?{_PLACE}",
    re.IGNORECASE,
)
_SECTION = re.compile(rf"(?:(?<!\w)(?:sections?|secs?\.)|§+)\s*{_PLACE}", re.IGNORECASE)
_MARK = re.compile(r"\([0-9a-z]{1,5}\)", re.IGNORECASE)

_NAME_WORD = re.compile(r"(?:[^\W\d_]\.){2,}|[^\W\d_](?:[\w’'-]*\w)?")
_POSSESSIVE = re.compile(r"['’]s?$")


def numbers(text: str) -> set[str]:
    """Return the distinct numbers written in digits, in one form: `1,000.50` is `1000.5`.

    Digits inside a word (`B12`) are none; those of dates, citations and lists are. Signs, units,
    fractions and factors are not read: `$2.5 million` is `2.5`.
    """
    return {_plain(match) for match in _NUMBER.findall(text)}


def supported_numbers(text: str) -> set[str]:
    """Return the numbers of a source: those in digits, and zero to twenty and the tens in words."""
    return numbers(text) | {_SPOKEN[word] for word in words(text) if word in _SPOKEN}


def _plain(number: str) -> str:
    return f"{Decimal(number.replace(',', '')).normalize():f}"


def citations(text: str) -> set[tuple[str, str, str]]:
    """Return the distinct citations as (code, section, subdivisions): `§ 3(a)` is ("", "3", "(a)").

    Read are `Section 3(a)`, `Sec. 3`, `§ 3` and `42 U.S.C. 1395x(a)` (code "42"). Of a list
    (`sections 3 and 4`) the first alone is read; titles, articles and public laws are not.
    """
    found = {(code, *_section(a, b)) for code, a, b in _CODE.findall(text)}
    rest = _CODE.sub(" ", text)
    return found | {("", *_section(a, b)) for a, b in _SECTION.findall(rest)}


def _section(number: str, marks: str) -> tuple[str, str]:
    return number.casefold().replace("–", "-"), marks.casefold()


def names(text: str) -> set[str]:
    """Return the distinct capitalised spans that do not begin a sentence, case-folded.

    A span is a run of words with capitals and nothing but white space between them; a possessive
    ends it. The first word of a sentence is left out, since its capital says nothing, and so are
    citations, lines without any small letter (headings) and `I`. Languages that write all nouns so,
    and scripts without capitals, are not served.
    """
    found = set()
    for sentence in split_sentences(unicodedata.normalize("NFC", text)):
        sentence = _SECTION.sub(",", _CODE.sub(",", sentence))
        if not any(letter.islower() for letter in sentence):
            continue
        matches = list(_NAME_WORD.finditer(sentence))[1:]
        span, end = [], None
        for match in matches:
            capital = match[0][0].isupper() and match[0] != "I"
            if span and not (capital and sentence[end : match.start()].isspace()):
                found.add(" ".join(span))
                span = []
            if capital:
                span.append(_name_word(match[0]))
                if _POSSESSIVE.search(match[0]):
                    found.add(" ".join(span))
                    span = []
            end = match.end()
        if span:
            found.add(" ".join(span))
    return found


def _name_word(word: str) -> str:
    return _POSSESSIVE.sub("", word).replace(".", "").casefold()


def number_precision(text: str, source: str) -> float | None:
    """Return the share of a text's distinct numbers that its source has, None where it has none."""
    return _share(numbers(text), supported_numbers(source))


def name_precision(text: str, source: str) -> float | None:
    """Return the share of a text's names that its source has, None where it has none.

    A name is supported where its words stand in a row in the source, in any letter case. An acronym
    is not known to stand for the words behind it.
    """
    found = names(text)
    plain = unicodedata.normalize("NFC", source)
    said = f" {' '.join(_name_word(word) for word in _NAME_WORD.findall(plain))} "
    return _share(found, {name for name in found if f" {name} " in said})


def citation_precision(text: str, source: str) -> float | None:
    """Return the share of a text's citations that its source has, None where it has none.

    A citation is supported where the source cites that section of that code and holds each mark of
    its subdivisions somewhere: statutes write `(a)` lines below their `SEC. 3.` A section without a
    code is supported by any code's.
    """
    found, known = citations(text), citations(source)
    marks = {mark.casefold() for mark in _MARK.findall(source)}
    sections = {(code, number) for code, number, _ in known}
    sections |= {("", number) for _, number, _ in known}
    supported = {
        citation
        for citation in found
        if citation[:2] in sections and set(_MARK.findall(citation[2])) <= marks
    }
    return _share(found, supported)


def _share(found: Collection, known: Collection) -> float | None:
    return sum(item in known for item in found) / len(found) if found else None
