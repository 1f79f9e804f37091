"""Intervals of benchmarks without scores of items, and prompts that were cut."""

import pytest
from sklearn.metrics import f1_score

from prunegrid.common.errors import PrunegridError
from prunegrid.evaluation.harness import task_scores
from prunegrid.models import checkpoint
from tests.helpers import benchmark_rows
from tests.helpers.asked_tasks import ask
from tests.helpers.asked_tasks import weights as weights  # a fixture

pytestmark = pytest.mark.model


def within(score, least, most):
    """Whether a score's interval holds it and lies in the metric's range."""
    return least <= score["low"] <= score["mean"] <= score["high"] <= most


def test_the_interval_of_a_score_of_all_items_is_that_of_resampled_items():
    """Few of many items are positive: a symmetric interval would reach below 0."""
    values = [(0, 0)] * 40 + [(1, 1), (1, 0), (0, 1)]
    sample = {"doc_id": 0, "filter": "none", "metrics": ["f1"], "arguments": [("", "")]}
    results = {
        "results": {"t": {"f1,none": 0.5, "f1_stderr,none": 0.3}},
        "samples": {"t": [{**sample, "f1": value, "target": 0} for value in values]},
        "higher_is_better": {"t": {"f1": True}},
        "configs": {"t": {"output_type": "generate_until"}},
    }

    def f1(items):
        truth, said = zip(*items, strict=True)
        return f1_score(truth, said, zero_division=0)

    found = task_scores.summarize(results, "t", ["f1"], "here", {"f1": f1})["f1"]
    assert within(found, 0, 1) and found["low"] == 0 and found["high"] > 0.8
    again = task_scores.summarize(results, "t", ["f1"], "here", {"f1": f1})["f1"]
    assert again == found and "low" not in task_scores.summarize(results, "t", ["f1"], "", {})["f1"]


def test_prompts_that_were_cut_are_counted_for_texts_and_for_choices(tmp_path, weights):
    positions = checkpoint.load(weights).model.config.max_position_embeddings
    rows = [{"q": "x" * length, "a": "y"} for length in (5, positions - 9, positions - 7, 3000)]
    data = benchmark_rows.artifact(tmp_path / "data", validation=rows)
    shared = {"doc_to_text": "{{q}}", "doc_to_target": "{{a}}"}
    texts = {
        **shared,
        "output_type": "generate_until",
        "generation_kwargs": {"until": ["\n"], "max_gen_toks": 8},
        "metric_list": [{"metric": "exact_match", "higher_is_better": True}],
    }
    asked = {"define": texts, "metrics": ["exact_match"]}
    record, _, _ = ask(tmp_path, weights, "own", data, **asked)
    assert record["contexts_cut"] == 2
    full = {**texts, "generation_kwargs": {"until": ["\n"], "max_gen_toks": positions}}
    (tmp_path / "b").mkdir()
    with pytest.raises(PrunegridError, match="own.*max"):
        ask(tmp_path / "b", weights, "own", data, **{**asked, "define": full})
