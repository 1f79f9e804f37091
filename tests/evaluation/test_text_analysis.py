"""What is read off texts, against brute force and by planted cases."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prunegrid.evaluation.text_analysis import fragments, numbers_and_names, repeated_phrases
from prunegrid.evaluation.text_analysis.words import content_stems, split_sentences, words

# Few words, so that texts share and repeat them.
WORDS = st.lists(st.sampled_from("abc"), max_size=14)
ODD = st.text(max_size=60)


@given(WORDS, st.integers(1, 4))
def test_the_repeated_share_counts_grams_seen_before(text, size):
    seen, again = [], 0
    for start in range(len(text) - size + 1):
        again += text[start : start + size] in seen
        seen.append(text[start : start + size])
    found = repeated_phrases.repeated_share(text, size)
    assert found == (pytest.approx(again / len(seen)) if seen else None)


@given(WORDS)
def test_the_longest_repeat_is_the_longest_span_at_two_places(text):
    longest = 0
    for a in range(len(text)):
        for b in range(a + 1, len(text)):
            length = 0
            while b + length < len(text) and text[a + length] == text[b + length]:
                length += 1
            longest = max(longest, length)
    assert repeated_phrases.longest_repeat(text) == longest


@pytest.mark.parametrize(
    ("text", "longest"), [("", 0), ("a", 0), ("a b", 0), ("a a", 1), ("a b " * 5, 8)]
)
def test_a_loop_repeats_all_but_its_first_round(text, longest):
    assert repeated_phrases.longest_repeat(text.split()) == longest


def test_loops_compress_and_empty_texts_have_no_ratio():
    prose = "The agency shall inspect bridges and report what it has found within a year."
    assert (
        repeated_phrases.compression_ratio(prose * 20)
        > 8
        > 2
        > repeated_phrases.compression_ratio(prose)
    )
    assert repeated_phrases.compression_ratio(" \n") is None
    assert repeated_phrases.compression_ratio("é") < 1


def slow_fragments(text, source):
    """Return Grusky's fragments as figure 3 of the paper puts them, word lists only."""
    found, i = [], 0
    while i < len(text):
        best = []
        for j in range(len(source)):
            for size in range(len(text) - i, len(best), -1):
                if text[i : i + size] == source[j : j + size]:
                    best = text[i : i + size]
                    break
        if best:
            found.append(best)
        i += max(len(best), 1)
    return found


@settings(max_examples=150)
@given(WORDS, WORDS)
def test_fragments_are_those_of_the_paper(text, source):
    found = fragments.fragments(text, source)
    slow = slow_fragments(text, source)
    assert [text[f.start : f.start + f.length] for f in found] == slow
    assert [source[f.source : f.source + f.length] for f in found] == slow
    if text:
        assert fragments.coverage(found, len(text)) == sum(map(len, slow)) / len(text)
        assert fragments.density(found, len(text)) == sum(len(s) ** 2 for s in slow) / len(text)
        assert fragments.coverage(found, len(text)) == sum(w in source for w in text) / len(text)


@given(WORDS, WORDS)
def test_a_fragment_is_the_first_of_its_equals_in_the_source(text, source):
    for start, place, length in fragments.fragments(text, source):
        run = text[start : start + length]
        firsts = (i for i in range(len(source)) if source[i : i + length] == run)
        assert place == next(firsts)


class Counted(str):
    """A word that counts how often any word was compared or looked up."""

    looks = 0

    def __hash__(self):
        Counted.looks += 1
        return super().__hash__()

    def __eq__(self, other):
        Counted.looks += 1
        return super().__eq__(other)


@pytest.mark.parametrize("loop", ["a", "ab", "aab", "abcdefghijklmnopqrstuvwxyz"])
def test_work_does_not_grow_with_the_square_of_a_text(loop):
    text = [Counted(letter) for letter in (loop * 2000)[:2000]]
    source = [*text[:1000], Counted("z"), *text[1000:]]
    Counted.looks = 0
    assert repeated_phrases.longest_repeat(text) == 2000 - len(loop)
    assert Counted.looks < 20 * len(text)
    assert sum(f.length for f in fragments.fragments([*text, *source], source)) == 4001
    assert Counted.looks < 80 * len(text)


def test_the_word_before_a_mark_ends_a_sentence_unless_it_is_an_abbreviation():
    line = 'It is in Sec. 3. See  (No. 4) and U.S. Code. "Sec." 5 is new . Then 6.'
    assert split_sentences(line) == [
        "It is in Sec. 3.",
        "See  (No. 4) and U.S. Code.",
        '"Sec."',
        "5 is new .",
        "Then 6.",
    ]


def test_a_copy_is_one_fragment_and_another_text_none():
    source = words("the agency shall inspect all bridges")
    (whole,) = fragments.fragments(source[1:5], source)
    assert whole == (0, 1, 4)
    assert fragments.density([whole], 4) == 4
    assert fragments.fragments(["x", "y"], source) == []
    assert fragments.fragments([], source) == fragments.fragments(["x"], []) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (
            "The Act's 2,500.50 well-known, cases.",
            ["the", "act's", "2,500.50", "well-known", "cases"],
        ),
        ("Straße STRASSE", ["strasse", "strasse"]),
        ("e\u0301te\u0301 \u00e9t\u00e9", ["\u00e9t\u00e9", "\u00e9t\u00e9"]),
        ("法案 支払", ["法案", "支払"]),
        ("... — !", []),
        ("end.Next", ["end", "next"]),
    ],
)
def test_words_are_folded_and_free_of_punctuation(text, found):
    assert words(text) == found


def test_content_stems_leave_out_function_words_numbers_and_short_words():
    assert content_stems("The farmers of 1234 farms shall not farming B1234 act") == {
        "farme",
        "farms",
        "farmi",
    }


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("In 2,500 cases of $2.50, 5th, 10%.", {"2500", "2.5", "5", "10"}),
        ("1,000.50 and 1000.5", {"1000.5"}),
        ("items 1,2,3", {"1", "2", "3"}),
        ("B12 and x2", set()),
        ("ten and twenty", set()),
        ("٣ and ３", {"3"}),
        ("", set()),
    ],
)
def test_numbers_are_those_in_digits_in_one_form(text, found):
    assert numbers_and_names.numbers(text) == found


def test_numbers_are_supported_by_digits_and_small_words():
    assert numbers_and_names.number_precision(
        "5 of 30 and 7", "five, thirty, 1,007"
    ) == pytest.approx(2 / 3)
    assert numbers_and_names.number_precision("none", "5") is None
    assert numbers_and_names.number_precision("5 5 5 6", "5") == 0.5  # each number counts once


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Section 3(a) and § 12", {("", "3", "(a)"), ("", "12", "")}),
        ("SEC. 5. TITLE", {("", "5", "")}),
        ("42 U.S.C. 1395x(a)(1)", {("42", "1395x", "(a)(1)")}),
        ("26 U.S. Code § 501(c)(3)", {("26", "501", "(c)(3)")}),
        ("42 USC 1396a", {("42", "1396a", "")}),
        ("intersection 4, insect 5", set()),
        ("the section on bees", set()),
    ],
)
def test_citations_are_read_in_their_usual_forms(text, found):
    assert numbers_and_names.citations(text) == found


@pytest.mark.parametrize(
    ("said", "precision"),
    [
        ("Section 3", 1.0),
        ("section 3(a)", 1.0),
        ("Section 3(z)", 0.0),
        ("§ 4", 0.0),
        ("Section 3 and § 4", 0.5),
        ("42 U.S.C. 1395", 1.0),
        ("43 U.S.C. 1395", 0.0),
        ("section 1395", 1.0),
        ("no section", None),
    ],
)
def test_citations_are_supported_by_section_and_marks(said, precision):
    source = "SEC. 3. PAYMENTS.\n(a) In general.—Under 42 U.S.C. 1395 they are made."
    assert numbers_and_names.citation_precision(said, source) == precision


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("The bill pays John Smith.", {"john smith"}),
        ("Taxes fall. Farms grow.", set()),
        (
            "It is in January, Ohio’s Senate and the U.S. House.",
            {"january", "ohio", "senate", "us house"},
        ),
        ("SHORT TITLE OF IT", set()),
        ("So I think", set()),
        ("Under Section 3 it is.", set()),
        ("Ce fut Élan Vital.", {"élan vital"}),
        ("de Gaulle", {"gaulle"}),
        ("法案 支払", set()),
        ("", set()),
    ],
)
def test_names_are_capitalised_spans_behind_a_first_word(text, found):
    assert numbers_and_names.names(text) == found


def test_names_are_supported_by_the_same_words_in_a_row():
    source = "JOHN SMITH's house. The senate of Ohio."
    assert numbers_and_names.name_precision(
        "By John Smith, Ohio and John Ohio.", source
    ) == pytest.approx(2 / 3)
    assert numbers_and_names.name_precision("It pays.", source) is None
    assert numbers_and_names.name_precision("By Smith", "") == 0.0


@given(ODD, ODD)
def test_any_text_can_be_read_and_supports_itself(text, other):
    for measure in (
        numbers_and_names.number_precision,
        numbers_and_names.name_precision,
        numbers_and_names.citation_precision,
    ):
        assert measure(text, text) in (None, 1.0)
        assert measure(text, other) is None or 0 <= measure(text, other) <= 1
    found = words(text)
    assert repeated_phrases.longest_repeat(found) <= max(len(found) - 1, 0)
    assert fragments.coverage(fragments.fragments(found, found), max(len(found), 1)) in (0, 1)
