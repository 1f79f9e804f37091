"""Passages and their last words: what a passage is, and that no cue tells the word."""

import json
import random
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest

from prunegrid.common.errors import PrunegridError
from prunegrid.data import last_words
from prunegrid.stages import cloze

LETTERS = "bcdfghklmnprstvw"


def word(number):
    """A word of six to eight letters that no other number below 4096 has."""
    digits = (number % 16, number // 16 % 16, number // 256)
    letters = "".join(LETTERS[digit] + vowel for digit, vowel in zip(digits, "aeo", strict=True))
    return letters + "ni"[: number % 3]


def texts(count=120, seed=0):
    """Articles of common words, and of rare ones of which some come again."""
    draw = random.Random(seed)
    filler = [word(n) for n in range(150)]
    rows = []
    for number in range(count):
        rare = [word(n) for n in draw.sample(range(300, 4000), 18)]
        sentences = []
        for _ in range(14):
            words = draw.choices(filler, k=4) + draw.choices(rare, k=4)
            sentences.append(" ".join(words).capitalize() + ".")
        rows.append({"id": f"a{number}", "text": "A Heading\n\n" + " ".join(sentences)})
    return rows


@pytest.fixture(scope="module")
def items():
    return last_words.items(texts())


def told(items, value):
    """The share of items whose right option has the largest value; a tie is guessed."""
    hits = 0.0
    for item in items:
        values = [value(item, option) for option in item["options"]]
        best = [place for place, one in enumerate(values) if one == max(values)]
        hits += (item["answer"] in best) / len(best)
    return hits / len(items)


def plain(item):
    return item["question"].replace(".", "").split()


def test_a_passage_ends_with_a_word_that_it_has_before(items):
    sources = {row["id"]: row["text"] for row in texts()}
    assert len(items) > 100 and len({item["id"] for item in items}) == len(items)
    for item in items:
        right = item["options"][item["answer"]]
        assert item["text"] == f"{item['question']} {right}"
        assert f"{item['text']}." in sources[item["id"].partition("/")[0]]
        words = plain(item)
        assert last_words.SHORTEST <= len(words) == item["length"] <= last_words.LONGEST
        assert words[0][0].isupper(), "it begins with a sentence"
        counts = {words.count(option) for option in item["options"]}
        assert len(set(item["options"])) == 4 and len(counts) == 1 and counts.pop() > 0


def test_the_commonest_words_are_no_options(items):
    filler = {word(n) for n in range(150)}
    assert not filler & {option for item in items for option in item["options"]}


def test_no_place_length_or_frequency_tells_the_word(items):
    everything = " ".join(row["text"].lower() for row in texts()).replace(".", "").split()
    cues = {
        "long": lambda _, option: len(option),
        "short": lambda _, option: -len(option),
        "late": lambda item, option: -plain(item)[::-1].index(option),
        "early": lambda item, option: plain(item)[::-1].index(option),
        "common": lambda _, option: everything.count(option.lower()),
        "rare": lambda _, option: -everything.count(option.lower()),
    }
    for place in range(4):
        share = told(items, lambda item, option, p=place: item["options"].index(option) == p)
        assert share == pytest.approx(0.25, abs=0.01)
    for name, cue in cues.items():
        assert told(items, cue) == pytest.approx(last_words.CHANCE, abs=0.03), name


def test_passages_do_not_crowd(items):
    """Two passages of one paragraph end at least APART words from each other."""
    text = {row["id"]: row["text"].replace(".", "") for row in texts()}
    ends = {}
    for item in items:
        article = item["id"].partition("/")[0]
        before = text[article].partition(item["text"].replace(".", ""))[0]
        ends.setdefault(article, []).append(len(before.split()) + item["length"])
    for places in ends.values():
        gaps = [b - a for a, b in zip(places, places[1:], strict=False)]
        assert all(gap >= last_words.APART for gap in gaps)


def make(folder, rows, **changes):
    source = folder / "texts.jsonl"
    source.write_text("".join(json.dumps({"body": row["text"]}) + "\n" for row in rows))
    out = folder / "out"
    out.mkdir()
    settings = {"source": {"kind": "local", "path": str(source)}, "format": "jsonl"}
    settings |= {"columns": {"text": "body"}, "splits": {"test": "all[50%:]"}} | changes
    job = SimpleNamespace(where="test", scratch=folder / "scratch")
    return cloze.run(settings, {}, out, job), out


def test_the_stage_takes_only_the_texts_of_its_slice(tmp_path):
    rows = texts(80)
    record, out = make(tmp_path, rows)
    items = pq.read_table(out / "test.parquet").to_pylist()
    named = [{"id": f"all:{n}", "text": rows[n]["text"]} for n in range(40, 80)]
    assert items == last_words.items(named)
    split = record["splits"]["test"]
    assert (split["texts"], split["rows"]) == (40, len(items))
    assert record["source"]["kind"] == "local"


def test_texts_without_such_a_passage_are_told(tmp_path):
    with pytest.raises(PrunegridError, match="no passage"):
        make(tmp_path, [{"text": "Too short."}, {"text": "As short."}])
