"""Numbers, names and section citations of a text, and the share of them that a source has too.

All by rules on the surface of the text; each function says what its rules miss.
"""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal

from prunegrid.data.number_names import name
from prunegrid.evaluation.text_analysis.words import split_sentences, words

_NUMBER = re.compile(r"(?<!\w)(?<!\d\.)(?:\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?)")
_SPOKEN = {name(n, "en"): str(n) for n in (*range(20), *range(20, 100, 10))}

_PLACE = r"(\d+[a-z]{0,3}(?:[-–]\d+[a-z]{0,3})?)((?:\([0-9a-z]{1,5}\))*)"
_CODE = re.compile(
    rf"(?<!\w)(\d+)\s+U\.?\s?S\.?\s?(?:C\b\.?|Code\b)\s*(?:§+\s*|sec(?:tion|\.)\s*)?{_PLACE}",
    re.IGNORECASE,
)
_SECTION = re.compile(rf"(?:(?<!\w)(?:sections?|secs?\.)|(?<!§)§+)\s*{_PLACE}", re.IGNORECASE)
_MARK = re.compile(r"\([0-9a-z]{1,5}\)", re.IGNORECASE)

_NAME_WORD = re.compile(r"(?:[^\W\d_]\.){2,}|[^\W\d_](?:[\w’'-]*\w)?")
_POSSESSIVE = re.compile(r"['’]s?$")


def numbers(text: str) -> set[str]:
    """Return the distinct numbers written in digits, in one form: `1,000.50` is `1000.5`.

    Digits inside a word (`B12`) are none; those of dates, citations and lists are. Signs, units,
    fractions and factors are not read: `$2.5 million` is `2.5`.
    """
    digits = (match.replace(",", "") for match in _NUMBER.findall(text))
    return {f"{Decimal(number).normalize():f}" for number in digits}


def supported_numbers(text: str) -> set[str]:
    """Return the numbers of a source: those in digits, and zero to twenty and the tens in words."""
    return numbers(text) | {_SPOKEN[word] for word in words(text) if word in _SPOKEN}


def citations(text: str) -> set[tuple[str, str, str]]:
    """Return the distinct citations as (code, section, subdivisions): `§ 3(a)` is ("", "3", "(a)").

    Read are `Section 3(a)`, `Sec. 3`, `§ 3` and `42 U.S.C. 1395x(a)` (code "42"). Of a list
    (`sections 3 and 4`) the first alone is read; titles, articles and public laws are not.
    """
    parts = [*_CODE.findall(text), *(("", *p) for p in _SECTION.findall(_CODE.sub(" ", text)))]
    return {
        (code, number.casefold().replace("–", "-"), marks.casefold())
        for code, number, marks in parts
    }


def names(text: str) -> set[str]:
    """Return the distinct capitalised spans that do not begin a sentence, case-folded.

    A span is a run of words with capitals and nothing but white space between them; a possessive
    ends it. The first word of a sentence is left out, since its capital says nothing, and so are
    citations, lines without any small letter (headings) and `I`. Languages that write all nouns so,
    and scripts without capitals, are not served.
    """
    spans: list[list[str]] = []
    for sentence in split_sentences(unicodedata.normalize("NFC", text)):
        sentence = _SECTION.sub(",", _CODE.sub(",", sentence))
        if not any(letter.islower() for letter in sentence):
            continue
        end = None  # of the word before, where it may go on
        for match in list(_NAME_WORD.finditer(sentence))[1:]:
            word = match[0]
            if not word[0].isupper() or word == "I":
                end = None
                continue
            if end is None or not sentence[end : match.start()].isspace():
                spans.append([])
            spans[-1].append(_name_word(word))
            end = None if _POSSESSIVE.search(word) else match.end()
    return {" ".join(span) for span in spans}


def _name_word(word: str) -> str:
    return _POSSESSIVE.sub("", word).replace(".", "").casefold()


def number_precision(text: str, source: str) -> float | None:
    """Return the share of a text's distinct numbers that its source has; None without numbers."""
    known = supported_numbers(source)
    return _share([number in known for number in numbers(text)])


def name_precision(text: str, source: str) -> float | None:
    """Return the share of a text's names that its source has; None without names.

    A name is supported where its words stand in a row in the source, in any letter case. An acronym
    is not known to stand for the words behind it.
    """
    plain = unicodedata.normalize("NFC", source)
    words_of_source = f" {' '.join(_name_word(word) for word in _NAME_WORD.findall(plain))} "
    return _share([f" {spoken} " in words_of_source for spoken in names(text)])


def citation_precision(text: str, source: str) -> float | None:
    """Return the share of a text's citations that its source has; None without citations.

    A citation is supported where the source cites that section of that code and holds each mark of
    its subdivisions somewhere: statutes write `(a)` lines below their `SEC. 3.` A section without a
    code is supported by any code's.
    """
    marks = {mark.casefold() for mark in _MARK.findall(source)}
    known = citations(source)
    sections = {(code, number) for code, number, _ in known} | {("", n) for _, n, _ in known}
    return _share(
        [
            (code, number) in sections and marks.issuperset(_MARK.findall(subdivisions))
            for code, number, subdivisions in citations(text)
        ]
    )


def _share(supported: list[bool]) -> float | None:
    return sum(supported) / len(supported) if supported else None
