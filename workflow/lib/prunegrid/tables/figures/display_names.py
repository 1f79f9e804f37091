"""Plain names of metrics, cells and numbers, as a figure writes them."""

from __future__ import annotations

import math
import re

from prunegrid.tables.figures.points import AXES, Cell
from prunegrid.tables.headline import is_perplexity
from prunegrid.tables.near_dense import DISTANCES

_METRICS = {
    "rouge1": "ROUGE-1",
    "rouge2": "ROUGE-2",
    "rougeL": "ROUGE-L",
    "rougeLsum": "ROUGE-Lsum",
    "bertscore": "BERTScore",
    "bleu": "BLEU",
    "chrf": "chrF",
    "chrf_corpus": "chrF of the whole corpus",
    "acc": "Accuracy",
    "acc_norm": "Accuracy, length-normalised",
    "mcc": "Matthews correlation",
    "f1": "F1",
    "exact_match": "Exact match",
    "length_ratio": "Length against the reference",
    "rep4": "Repeated 4-grams",
    "word_perplexity": "Perplexity of a word",
    "agreement": "Same next token as dense",
    "kl": "KL from dense, nats a token",
    "flips_right_wrong": "Right in dense, wrong here",
    "flips_wrong_right": "Wrong in dense, right here",
    "recognised": "Recognised among options",
    "produced": "Produced",
    "recognised_not_produced": "Recognised, not produced",
}
_METHODS = {"wanda": "Wanda", "sparsegpt": "SparseGPT", "ria": "RIA", "taylor": "Taylor"}
_METHODS |= {"stade": "STADE", "influence": "block influence"}
_METHODS |= {"alps": "ALPS", "admm": "ADMM-Grad", "reap": "REAP"}
_VALUES = {
    "alpha": "AlphaPruning",
    "owl": "OWL",
    "error": "by error",
    "least_squares": "least squares",
    "mlp": "MLP",
}
_VALUES |= {"sparsegpt": "SparseGPT's update", "none": "not updated"}
_ARMS = {
    "one-shot": "at once, untuned",
    "one-shot-tuned": "at once, then tuned",
    "iterative": "in steps, tuned after each",
    "dense-tuned": "dense, tuned on the same tokens",
}
UNTUNED = "untuned"


def metric_name(metric: str) -> str:
    """Return a metric's plain name; that of one without, such as a user's own, is its column."""
    if metric in _METRICS:
        return _METRICS[metric]
    if metric.startswith("bertscore_"):
        return f"BERTScore ({metric.removeprefix('bertscore_')})"
    if metric.startswith("word_perplexity"):
        return _METRICS["word_perplexity"]
    return "Perplexity" if is_perplexity(metric) else metric


def measure_name(split: str, metric: str) -> str:
    """Return the title of a panel: the metric, and the split, task or evaluation."""
    return f"{metric_name(metric)}, {split}"


def items_name(metric: str, n: int | None, is_task: bool) -> str:
    """Return how many items a score is a mean over: "16 windows of 512 tokens"."""
    if n is None:
        return ""
    noun, more = items_noun(metric, is_task), ""
    if is_perplexity(metric):
        if window := re.match(r"(?:ppl|word_perplexity)_(\d+)", metric):
            more = f" of {int(window[1]):,} tokens"
        if stride := re.search(r"stride(\d+)", metric):
            more += f", stride {stride[1]}"
    return f"{n:,} {noun}{'' if n == 1 else 's'}{more}"


def items_noun(metric: str, is_task: bool) -> str:
    """Return what a score is a mean over: documents, windows of a text, items of a task."""
    if is_perplexity(metric) or metric in DISTANCES:
        return "window"
    return "item" if is_task else "document"


def direction(higher_is_better: bool | None) -> str:
    """Return which way of an axis is better, in words."""
    if higher_is_better is None:
        return "neither high nor low is better"
    return "higher is better" if higher_is_better else "lower is better"


def method_name(method: str) -> str:
    """Return a pruning method's name as its paper writes it."""
    return _METHODS.get(method, method)


def value_name(value: str) -> str:
    """Return the value of an axis of pruning (`AXES`) in plain words."""
    return " and ".join(_VALUES.get(part, part) for part in value.split("+"))


def recipe(cell: Cell) -> str:
    """Return what was pruned, in a few plain words: "Wanda, 2:4", "taylor, MLP, 25% removed"."""
    if cell.method == "dense":
        return "not pruned"
    axes = dict(zip(AXES, cell.axes, strict=True))
    words = [method_name(cell.method)]
    if axes["units"]:
        words += [value_name(axes["units"]), f"{percent(cell.target)} removed"]
    elif axes["pattern"] in (None, "unstructured"):
        words.append(f"{percent(cell.target)} zeros")
    else:
        words.append(axes["pattern"])
    usual = ("uniform", "none", None)
    parts = (axes["allocation"], axes["refine"], axes["update"])
    words += [value_name(part) for part in parts if part not in usual]
    return ", ".join(words)


def tuning_name(cell: Cell) -> str:
    """Return the heading of the cells that were tuned as this one was."""
    if not cell.tuned:
        return "Not tuned"
    names = " + ".join(cell.finetune.split("+"))
    return f"Tuned: {names}" if cell.trained else f"Not tuned, then {names}"


def arm_name(arm: str) -> str:
    """Return an arm of an iterated grid in plain words; of another tuning its profiles' names."""
    return _ARMS.get(arm) or f"tuned: {' + '.join(arm.split('+'))}"


def percent(share: float) -> str:
    """Return a share in percent, without zeros that say nothing: "50%", "12.5%"."""
    return f"{100 * share:.4g}%"


def number(value: float) -> str:
    """Return a value as people write it: three digits that count, thousands with a comma."""
    if math.isnan(value):
        return "not a number"
    size = abs(value)
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if size >= 1e6:
        return f"{value / 1e6:,.3g} million"
    digits = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3
    return f"{value:,.{digits}f}"
