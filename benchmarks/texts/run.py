"""Time what reads long texts, here and at another commit, in turns: `run.py [COMMIT] [WORDS]`.

Without a commit the work here is timed alone. CPU seconds; the second run of each counts.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = "workflow/lib"


def texts(words: int) -> tuple[list[str], list[str], str, str]:
    """Return drawn words, the same shuffled, a document of as many words, and a summary."""
    draw = random.Random(0)
    vocabulary = [f"w{number}" for number in range(5000)]
    weights = [1 / (number + 1) for number in range(5000)]

    def sentences(count: int) -> str:
        drawn = (" ".join(draw.choices(vocabulary, weights, k=15)) for _ in range(count))
        return " ".join(f"{sentence.capitalize()}." for sentence in drawn)

    drawn = draw.choices(vocabulary, weights, k=words)
    return drawn, draw.sample(drawn, k=words), sentences(words // 15), sentences(words // 300)


def seconds(words: int) -> dict[str, float]:
    """Return the CPU seconds of each kind of work with the library that is imported."""
    import pandas

    from prunegrid.evaluation.baselines import greedy_extract
    from prunegrid.evaluation.text_analysis import fragments, repeated_phrases
    from prunegrid.evaluation.text_analysis.words import split_sentences

    drawn, shuffled, document, summary = texts(words)
    rows = pandas.DataFrame({"document": [document], "summary": [summary]})
    abbreviations = "See U.S. Code Sec. 3 No. 4 and " * (words // 8)
    work = {
        "longest repeat": lambda: repeated_phrases.longest_repeat(drawn),
        "fragments of shuffled words": lambda: fragments.fragments(shuffled, drawn),
        "greedy extract": lambda: greedy_extract.predict(rows, {"sentences": None}, None),
        "sentences of abbreviations": lambda: split_sentences(abbreviations),
    }
    spent = {}
    for name, run in work.items():
        for _ in range(2):
            began = time.process_time()
            run()
            spent[name] = time.process_time() - began
    return spent


def measured(checkout: Path, words: int) -> dict[str, float]:
    """Return the seconds with the library of a checkout, in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--one", str(words)],
        env=os.environ | {"PYTHONPATH": str(checkout / LIBRARY)},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def main(commit: str | None, words: int) -> None:
    """Print a line for each kind of work: seconds there, here, and the ratio."""
    with tempfile.TemporaryDirectory() as folder:
        there = None
        if commit:
            archive = subprocess.run(
                ["git", "-C", str(ROOT), "archive", commit, LIBRARY],
                check=True,
                capture_output=True,
            )
            subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
            there = measured(Path(folder), words)
        here = measured(ROOT, words)
    for name, spent in here.items():
        before = f"{there[name]:8.2f} s there, " if there else ""
        ratio = f", {there[name] / max(spent, 1e-3):.0f} times" if there else ""
        print(f"{name:30} {before}{spent:8.2f} s here{ratio}")


if __name__ == "__main__":
    given = sys.argv[1:]
    if given[:1] == ["--one"]:
        print(json.dumps(seconds(int(given[1]))))
    else:
        main(given[0] if given else None, int(given[1]) if len(given) > 1 else 20_000)
