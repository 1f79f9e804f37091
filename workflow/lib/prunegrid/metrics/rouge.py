"""ROUGE-1, -2, -L and -Lsum F-measures of each example (Lin, 2004), by `rouge_score`.

ROUGE-N: F = 2PR/(P+R) over clipped counts of word n-grams. ROUGE-L: the same over the longest
common subsequence of the whole texts. ROUGE-Lsum: over the union of each reference sentence's
longest common subsequences with all predicted sentences.

Deviations from the Perl original: those of `rouge_score` (its tokenizer keeps [a-z0-9] only, so
scores of other scripts are 0; its Porter stemmer is nltk's). Lsum needs sentences: `rouge_score`
would take them from nltk's downloaded model; here they come from a rule (see `split_sentences`).
"""

from __future__ import annotations

import re

import datasets
import evaluate
from rouge_score.rouge_scorer import RougeScorer
from tqdm.auto import tqdm

SETTINGS = {"stemmer": True, "sentences": "rule"}
COLUMNS = {
    "rouge1": {"higher_is_better": True},
    "rouge2": {"higher_is_better": True},
    "rougeL": {"higher_is_better": True},
    "rougeLsum": {"higher_is_better": True},
}
NEEDS_MODEL = False
PACKAGES = ("rouge-score", "nltk")

# A full stop after one of these does not end a sentence. Statutes are full of them.
_ABBREVIATION = re.compile(
    r"secs?|nos?|arts?|pars?|subsec|cl|chs?|figs?|eq|vol|pp|stat|cf|e\.g|i\.e|etc|al|approx|vs?|"
    r"mrs?|ms|dr|prof|st|jr|sr|inc|co|corp|ltd|dept|gen|rep|sen|gov",
    re.IGNORECASE,
)
_CANDIDATE = re.compile(r"""[.!?]["')\]”’]*(\s+)(?=["'(\[“‘]*[A-Z0-9])""")
_INITIALS = re.compile(r"(?:[A-Za-z]\.)*[A-Za-z]")


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
            words = line[start : match.start()].split()
            last = words[-1].lstrip("\"'([“‘") if words else ""
            closed = match.start(1) - match.start() > 1
            abbreviated = _ABBREVIATION.fullmatch(last) or _INITIALS.fullmatch(last)
            if line[match.start()] == "." and abbreviated and not closed:
                continue
            sentences.append(line[start : match.start(1)])
            start = match.end()
        sentences.append(line[start:])
    return [sentence.strip() for sentence in sentences if sentence.strip()]


class Rouge(evaluate.Metric):
    """ROUGE F-measures per example."""

    def _info(self):
        return evaluate.MetricInfo(
            description=__doc__,
            citation="Lin, C.-Y. (2004). ROUGE: A package for automatic evaluation of summaries.",
            features=datasets.Features(
                {"predictions": datasets.Value("string"), "references": datasets.Value("string")}
            ),
        )

    def _compute(self, predictions, references, stemmer=True, sentences="rule"):
        if sentences not in ("rule", "lines"):
            raise ValueError(f"sentences is '{sentences}'; expected 'rule' or 'lines'")
        if not isinstance(stemmer, bool):
            raise ValueError(f"stemmer is {stemmer!r}; expected true or false")
        scorer = RougeScorer(list(COLUMNS), use_stemmer=stemmer)
        split = split_sentences if sentences == "rule" else str.splitlines
        scores = {column: [] for column in COLUMNS}
        pairs = zip(references, predictions, strict=True)
        for reference, prediction in tqdm(pairs, "rouge", len(references), disable=None):
            found = scorer.score("\n".join(split(reference)), "\n".join(split(prediction)))
            for column in COLUMNS:
                scores[column].append(float(found[column].fmeasure))
        return scores
