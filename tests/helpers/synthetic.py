"""Made-up English for tests: seeded documents with summaries that say what they say."""

from __future__ import annotations

import random


def words(text: str, mark: str | None = None) -> list[str]:
    """Return the words of a text, or its parts between marks."""
    return [" ".join(part.split()) for part in text.split(mark)]


SUBJECTS = words("""agency board council department commission county district school hospital
library company union court committee city state bureau office museum university railway harbor farm
laboratory airport clinic bank museum theater cooperative refinery brewery orchard""")
ADJECTIVES = words("""local federal public private rural urban annual new former small large
regional independent certified eligible temporary permanent senior coastal northern southern eastern
western central general special joint modern historic""")
VERBS = words(
    """shall review|must publish|may fund|should inspect|shall repair|must report|may
extend|shall reduce|should expand|must protect|may purchase|shall restore|should train|must
measure|may lease|shall audit|should support|must replace|may register|shall monitor""",
    "|",
)
OBJECTS = words("""roads bridges schools records forests rivers buildings vehicles permits budgets
contracts programs loans pensions grants farms wells tunnels engines archives maps
meters reserves shelters gardens pipelines networks turbines reactors vessels uniforms""")
REASONS = words(
    """before the end of the fiscal year|in accordance with the plan|for the benefit of
residents|within ninety days|without additional cost|after a public hearing|under the terms of the
agreement|in each of the listed counties|as the secretary determines|subject to available
funds|with the consent of the owners|unless the court orders otherwise""",
    "|",
)


def sentence(draw: random.Random) -> str:
    """Return one sentence."""
    subject = f"the {draw.choice(ADJECTIVES)} {draw.choice(SUBJECTS)}"
    said = f"{subject} {draw.choice(VERBS)} {draw.choice(ADJECTIVES)} {draw.choice(OBJECTS)}"
    if draw.random() < 0.7:
        said += " " + draw.choice(REASONS)
    return said[0].upper() + said[1:] + "."


def text(draw: random.Random, length: int) -> str:
    """Return sentences of at least `length` words together."""
    sentences: list[str] = []
    while sum(len(s.split()) for s in sentences) < length:
        sentences.append(sentence(draw))
    return " ".join(sentences)


def bill(draw: random.Random) -> dict[str, str]:
    """Return {text, summary, title}: a document of 60 to 200 words, and what it says first."""
    document = text(draw, draw.randint(60, 190))
    summary = " ".join(document.split(". ")[0].split()[:24]).rstrip(".") + "."
    summary = "This bill says that " + summary[0].lower() + summary[1:]
    return {"text": document, "summary": summary, "title": " ".join(document.split()[:6])}


def bills(count: int, seed: int) -> list[dict[str, str]]:
    """Return documents with summaries and titles."""
    draw = random.Random(seed)
    return [bill(draw) for _ in range(count)]


def articles(count: int, seed: int, short: int = 120, long: int = 2600) -> list[str]:
    """Return texts, of which every fourth has `long` words and the others about `short`."""
    draw = random.Random(seed)
    return [text(draw, long if i % 4 == 0 else short) for i in range(count)]
