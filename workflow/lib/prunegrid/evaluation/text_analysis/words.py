"""Words and sentences of a text, by rules."""

from __future__ import annotations

import re
import unicodedata

_WORD = re.compile(r"\d+(?:[.,]\d+)*\w*|\w+(?:['’-]\w+)*")
# Words of four letters or more that say nothing of a text's subject; shorter ones never count.
_FUNCTION_WORDS = """
about above after again against also although among another because been before being below
between both cannot could does doing done down during each either every from further have
having here hers herself himself however into itself just many might more most much must
neither only other ought ours ourselves over same shall should since some such than that
their theirs them themselves then there therefore these they this those through thus under
until unless upon very were what when where whether which while whom whose will with within
without would your yours yourself
"""
_FUNCTION = frozenset(_FUNCTION_WORDS.split())

# A full stop after one of these does not end a sentence. Statutes are full of them.
_ABBREVIATION = re.compile(
    r"secs?|nos?|arts?|pars?|subsec|cl|chs?|figs?|eq|vol|pp|stat|cf|e\.g|i\.e|etc|al|approx|vs?|"
    r"mrs?|ms|dr|prof|st|jr|sr|inc|co|corp|ltd|dept|gen|rep|sen|gov",
    re.IGNORECASE,
)
_CANDIDATE = re.compile(r"""[.!?]["')\]”’]*(\s+)(?=["'(\[“‘]*[A-Z0-9])""")
_INITIALS = re.compile(r"(?:[A-Za-z]\.)*[A-Za-z]")


def words(text: str) -> list[str]:
    """Return the words of a text, case-folded, without punctuation.

    A word is a run of letters, digits and underscores in Unicode's NFC; apostrophes and hyphens may
    join such runs, commas and full stops the digits of a number.
    """
    return _WORD.findall(unicodedata.normalize("NFC", text).casefold())


def content_stems(text: str) -> set[str]:
    """Return the first five letters of each content word of a text.

    A content word has four letters or more, no digit, and is no function word of English. Five
    letters stand for a stem: `farmers` and `farming` are one, and so are `contract` and `contrast`.
    """
    long = {word for word in words(text) if len(word) >= 4}
    return {word[:5] for word in long - _FUNCTION if not any(map(str.isdigit, word))}


def split_sentences(text: str) -> list[str]:
    """Return the sentences of a text: each line, cut after `.`, `!` or `?`.

    A cut needs white space behind the mark (quotes and brackets may close between them) and then a
    capital letter or a digit. There is none right after initials (`U.S.`) and common abbreviations
    (`Sec.`, `No.`), even where one happens to end a sentence.
    """
    sentences = []
    for line in text.splitlines():
        start = 0
        for match in _CANDIDATE.finditer(line):
            last = _last_word(line, start, match.start()).lstrip("\"'([“‘")
            closed = match.start(1) - match.start() > 1
            abbreviated = _ABBREVIATION.fullmatch(last) or _INITIALS.fullmatch(last)
            if line[match.start()] == "." and abbreviated and not closed:
                continue
            sentences.append(line[start : match.start(1)])
            start = match.end()
        sentences.append(line[start:])
    return [sentence.strip() for sentence in sentences if sentence.strip()]


def _last_word(line: str, start: int, end: int) -> str:
    """Return the last word of a part of a line; to split the part would read all of it."""
    while end > start and line[end - 1].isspace():
        end -= 1
    begin = end
    while begin > start and not line[begin - 1].isspace():
        begin -= 1
    return line[begin:end]
