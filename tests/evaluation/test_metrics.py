"""Metrics of the library against small oracles written here."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prunegrid.common.errors import PrunegridError
from prunegrid.common.plugins import METRICS_READ
from prunegrid.common.source_code import LIBRARY, literals
from prunegrid.evaluation import metric_loader
from prunegrid.evaluation.scoring import score

FILES = sorted((LIBRARY / "prunegrid/evaluation" / "metrics").glob("[!_]*.py"))
# Few words, so that texts share many of them.
TEXTS = st.lists(st.sampled_from(["act", "bill", "tax", "farm", "the", "of"]), max_size=12).map(
    " ".join
)
REFERENCES = TEXTS.filter(bool)


@pytest.fixture(scope="module")
def plain_rouge():
    return metric_loader.load("rouge", {"stemmer": False})


def values(metric: str, pairs: list[tuple[str, str]], **options) -> pd.DataFrame:
    """Return the scores of (prediction, reference) pairs."""
    frame = pd.DataFrame(pairs, columns=["prediction", "reference"])
    frame["id"] = [f"e{number}" for number in range(len(pairs))]
    return score(frame, {metric: options}).examples


def f_measure(hits: int, predicted: int, wanted: int) -> float:
    return 2 * hits / (predicted + wanted) if hits else 0.0


def ngram_f(prediction: str, reference: str, size: int) -> float:
    grams = [
        Counter(tuple(words[i : i + size]) for i in range(len(words) - size + 1))
        for words in (prediction.split(), reference.split())
    ]
    hits = sum((grams[0] & grams[1]).values())
    return f_measure(hits, grams[0].total(), grams[1].total())


def lcs_f(prediction: str, reference: str) -> float:
    a, b = prediction.split(), reference.split()

    @lru_cache(None)
    def length(i: int, j: int) -> int:
        if i == len(a) or j == len(b):
            return 0
        if a[i] == b[j]:
            return 1 + length(i + 1, j + 1)
        return max(length(i + 1, j), length(i, j + 1))

    return f_measure(length(0, 0), len(a), len(b))


@settings(max_examples=60)
@given(st.lists(st.tuples(TEXTS, REFERENCES), min_size=1, max_size=4))
def test_rouge_is_the_f_measure_of_ngrams_and_of_the_longest_common_subsequence(plain_rouge, pairs):
    predictions, references = (list(side) for side in zip(*pairs, strict=True))
    found = plain_rouge.function(predictions, references, **plain_rouge.settings)
    for row, (prediction, reference) in enumerate(pairs):
        assert found["rouge1"][row] == pytest.approx(ngram_f(prediction, reference, 1))
        assert found["rouge2"][row] == pytest.approx(ngram_f(prediction, reference, 2))
        assert found["rougeL"][row] == pytest.approx(lcs_f(prediction, reference))
        # Of one sentence each, the union of subsequences is the subsequence.
        assert found["rougeLsum"][row] == pytest.approx(found["rougeL"][row])


def test_the_stemmer_is_on_by_default_and_joins_word_forms():
    pair = [("farmers paying taxes", "farmer pays tax")]
    assert values("rouge", pair)["rouge1"][0] == pytest.approx(1.0)
    assert values("rouge", pair, stemmer=False)["rouge1"][0] == 0.0


def test_rouge_lsum_takes_sentences_in_any_order_where_they_are_split():
    pair = [("Taxes fall soon. Farms grow fast.", "Farms grow fast. Taxes fall soon.")]
    split, whole = values("rouge", pair), values("rouge", pair, sentences="lines")
    assert split["rougeLsum"][0] == 1.0
    assert whole["rougeLsum"][0] == split["rougeL"][0] == whole["rougeL"][0] == 0.5


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One act. Two acts! Three?", ["One act.", "Two acts!", "Three?"]),
        ("See Sec. 5 of the U.S. Code. It ends.", ["See Sec. 5 of the U.S. Code.", "It ends."]),
        ('He said "no." Then (he left.) Next', ['He said "no."', "Then (he left.)", "Next"]),
        ("It pays 3.5 percent. and more", ["It pays 3.5 percent. and more"]),
        ("a line\n\n another ", ["a line", "another"]),
        (" \n ", []),
        (". . .", [". . ."]),
    ],
)
def test_sentences_are_split_by_the_documented_rule(plain_rouge, text, sentences):
    assert plain_rouge.code.split_sentences(text) == sentences


@given(st.text(alphabet="aB .!?\n\"'(U1", max_size=40))
def test_splitting_loses_nothing_but_white_space(plain_rouge, text):
    joined = "".join(plain_rouge.code.split_sentences(text))
    assert "".join(joined.split()) == "".join(text.split())


@pytest.mark.parametrize(
    ("option", "named"), [({"stemmer": "yes"}, "stemmer"), ({"sentences": "nltk"}, "sentences")]
)
def test_rouge_refuses_settings_that_it_does_not_know(option, named):
    with pytest.raises(PrunegridError, match=f"rouge.*{named} is"):
        values("rouge", [("a", "a")], **option)


def test_a_text_that_repeats_itself_is_told_from_one_that_does_not():
    found = values("repetition", [("a b c d " * 8, "x"), ("a b c d e f", "x"), ("a b c", "x")])
    assert found["rep4"][0] == pytest.approx(25 / 29)
    assert found["rep4"][1] == 0.0
    assert pd.isna(found["rep4"][2])
    assert found["rep2"].tolist() == [pytest.approx(27 / 31), 0.0, 0.0]
    assert found["rep3"].tolist() == [pytest.approx(26 / 30), 0.0, 0.0]
    assert found["longest_repeat"].tolist() == [28.0, 0.0, 0.0]
    assert found["compression"][0] > 3 > found["compression"][1]


def test_an_empty_text_and_one_word_have_the_scores_that_they_can_have():
    found = with_prompt(["repetition", "copying", "faithfulness", "echo"], ["", "act", "é"])
    scored = found.notna()
    assert scored.loc[0].drop("id").sum() == 2  # longest_repeat and prompt_echo
    assert found["longest_repeat"].tolist() == found["prompt_echo"].tolist() == [0.0, 0.0, 0.0]
    assert scored["compression"].tolist() == scored["copy_density"].tolist() == [False, True, True]
    assert found["copy_longest"].tolist()[1:] == [1.0, 0.0]
    assert not scored[["rep2", "number_precision", "name_precision"]].any(axis=None)


def with_prompt(metrics: list[str], predictions: list[str], **columns) -> pd.DataFrame:
    """Return the scores of predictions with a document and a template beside them."""
    frame = pd.DataFrame({"prediction": predictions, "reference": "r", "hit_limit": False})
    frame["id"] = [f"e{number}" for number in range(len(predictions))]
    frame["document"] = "The act pays 5 farmers. By Section 3 Ann Lee gets 7."
    frame["template"] = "### Instruct: Say in few words what this says.\n{document}\n### Output:\n"
    return score(frame.assign(**columns), {name: {} for name in metrics}).examples


def test_copying_and_faithfulness_are_measured_against_the_document():
    texts = ["The act pays 5 farmers", "An act pays Ann Lee, 8 or 7, by section 3", "x y"]
    found = with_prompt(["copying", "faithfulness"], texts)
    assert found["copy_coverage"].tolist() == [1.0, pytest.approx(8 / 11), 0.0]
    assert found["copy_density"].tolist() == [5.0, pytest.approx((4 + 4 + 1 + 9) / 11), 0.0]
    assert found["copy_longest"].tolist() == [5.0, 3.0, 0.0]
    assert found["number_precision"].tolist()[:2] == [1.0, pytest.approx(2 / 3)]
    assert found["name_precision"][1] == found["citation_precision"][1] == 1.0
    assert found.loc[2, ["number_precision", "name_precision"]].isna().all()


@pytest.mark.parametrize(
    ("text", "echo"),
    [
        ("### Output: the act", 1.0),
        ("It pays. ### Submit", 1.0),
        ("say in few words what", 1.0),
        ("say in few words", 0.0),
        ("The act pays. Output: none", 0.0),
        ("", 0.0),
    ],
)
def test_an_echo_is_a_marker_or_five_words_of_the_template(text, echo):
    assert with_prompt(["echo"], [text])["prompt_echo"][0] == echo


def test_a_line_of_plain_words_is_no_marker():
    template = "Summary\n{document}\nGist:"
    found = with_prompt(["echo"], ["A Summary", "Gist: it pays"], template=template)
    assert found["prompt_echo"].tolist() == [0.0, 1.0]


def test_the_limit_is_what_generation_said():
    found = with_prompt(["limit"], ["a", "b", "c"], hit_limit=[True, False, None])
    assert found["hit_limit"].tolist()[:2] == [1.0, 0.0]
    assert pd.isna(found["hit_limit"][2])
    found = with_prompt(["labels"], ["a b c"], hit_limit=None)
    assert found["label_none"][0] == 1.0 and pd.isna(found["label_cut_off"][0])


def test_length_counts_words_and_flags_empty_predictions():
    found = values("length", [("a b c", "x y"), (" \n", "x y"), ("a", "a")])
    assert found["length_ratio"].tolist() == [1.5, 0.0, 1.0]
    assert found["empty"].tolist() == [0.0, 1.0, 0.0]


def test_an_empty_prediction_has_a_rouge_of_zero():
    found = values("rouge", [("", "the act"), ("...", "the act")])
    assert (found[["rouge1", "rouge2", "rougeL", "rougeLsum"]] == 0.0).all(axis=None)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_metric_declares_itself_in_literals(path):
    declared = literals(path)
    assert {"SETTINGS", "COLUMNS"} <= declared.keys()
    metric = metric_loader.load(path.stem, {})
    assert metric.code.COLUMNS == declared["COLUMNS"] != {}
    assert declared["SETTINGS"] == metric.code.SETTINGS
    assert all(
        about["higher_is_better"] in (True, False, None) for about in metric.declared.values()
    )
    reads = set(declared.get("READS", ()))
    assert reads == set(metric.reads) & METRICS_READ
