"""Names of whole numbers below a million in English, German and French.

A language pair that is small enough to be learned from nothing in minutes, and that is a
translation all the same: German says the units before the tens, French counts by twenties from
seventy on, and both join words by rules of their own. English as in American use (no "and"),
French with the hyphens of before 1990.
"""

from __future__ import annotations

LANGUAGES = ("en", "de", "fr")
LIMIT = 1_000_000

# fmt: off
_EN = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen",
    "nineteen",
]
_EN_TENS = [
    "-", "-", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety",
]
_DE = [
    "null", "eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun", "zehn",
    "elf", "zwölf", "dreizehn", "vierzehn", "fünfzehn", "sechzehn", "siebzehn", "achtzehn",
    "neunzehn",
]
_DE_TENS = [
    "-", "-", "zwanzig", "dreißig", "vierzig", "fünfzig", "sechzig", "siebzig", "achtzig",
    "neunzig",
]
_FR = [
    "zéro", "un", "deux", "trois", "quatre", "cinq", "six", "sept", "huit", "neuf", "dix",
    "onze", "douze", "treize", "quatorze", "quinze", "seize", "dix-sept", "dix-huit",
    "dix-neuf",
]
_FR_TENS = [
    "-", "-", "vingt", "trente", "quarante", "cinquante", "soixante", "soixante",
    "quatre-vingt", "quatre-vingt",
]
# fmt: on


def name(number: int, language: str) -> str:
    """Return the name of a number.

    Args:
        number: 0 ≤ number < LIMIT.
        language: one of LANGUAGES.

    Raises:
        ValueError: the number is outside of that.
    """
    if not 0 <= number < LIMIT:
        raise ValueError(f"number is {number}; expected 0 ≤ number < {LIMIT}")
    return {"en": _english, "de": _german, "fr": _french}[language](number)


def _english(n: int) -> str:
    if n < 20:
        return _EN[n]
    if n < 100:
        return _EN_TENS[n // 10] + (f"-{_EN[n % 10]}" if n % 10 else "")
    size, word = (100, "hundred") if n < 1000 else (1000, "thousand")
    return f"{_english(n // size)} {word}" + (f" {_english(n % size)}" if n % size else "")


def _german(n: int) -> str:
    if n < 20:
        return _DE[n]
    if n < 100:
        before = "ein" if n % 10 == 1 else _DE[n % 10]
        return (f"{before}und" if n % 10 else "") + _DE_TENS[n // 10]
    size, word = (100, "hundert") if n < 1000 else (1000, "tausend")
    # One loses its s before what it counts.
    count = _german(n // size)
    count = count[:-1] if count.endswith("eins") else count
    return count + word + (_german(n % size) if n % size else "")


def _french(n: int) -> str:
    if n < 20:
        return _FR[n]
    if n < 100:
        # Seventies and nineties go on from sixty and eighty, up to nineteen.
        rest = n % 20 if n >= 60 else n % 10
        if rest == 0:
            return _FR_TENS[n // 10] + ("s" if n == 80 else "")
        joint = " et " if rest in (1, 11) and n < 80 else "-"
        return _FR_TENS[n // 10] + joint + _FR[rest]
    if n < 1000:
        count, rest = divmod(n, 100)
        hundreds = "cent" if count == 1 else f"{_FR[count]} cent"
        plural = "s" if count > 1 and rest == 0 else ""
        return hundreds + plural + (f" {_french(rest)}" if rest else "")
    count, rest = divmod(n, 1000)
    # Before mille, neither cent nor vingt has a plural.
    said = "" if count == 1 else _french(count)
    said = said.removesuffix("s") if said.endswith(("cents", "vingts")) else said
    return " ".join(filter(None, [said, "mille", _french(rest) if rest else ""]))
